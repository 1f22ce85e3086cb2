"""Health: one object that knows whether a process may get traffic, told over gRPC and HTTP alike.

Live means the process and its supervisor work. Ready means start-up is done, every dependency is up, and no drain has
begun. It must not know what the phases or dependencies are.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(slots=True)
class Phase:
    """One step of start-up: pending, running, done or failed, and the seconds it has taken."""

    name: str
    state: str = "pending"
    started: float = 0.0
    took: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the phase as it stands in the ready body."""
        running = time.monotonic() - self.started if self.state == "running" else 0.0
        seconds = self.took if self.took is not None else running
        return {"name": self.name, "state": self.state, "seconds": round(seconds, 3)}


@dataclass(slots=True)
class Health:
    """Readiness of one process: start-up phases, dependencies that come and go, drain."""

    services: tuple[str, ...]
    phases: dict[str, Phase] = field(default_factory=dict)
    grpc: HealthServicer = field(default_factory=HealthServicer)
    draining: bool = False
    _down: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, services: Iterable[str], phases: Iterable[str]) -> "Health":
        """Return health for the gRPC service names `services` and the start-up phases `phases`, in order."""
        return cls(services=("", *services), phases={name: Phase(name) for name in phases})

    @property
    def ready(self) -> bool:
        """Whether new work is welcome."""
        return not self.draining and not self._down and all(p.state == "done" for p in self.phases.values())

    @property
    def message(self) -> str:
        """One line that says why, for people and for the ready body."""
        if self.draining:
            return "draining"
        for phase in self.phases.values():
            if phase.state != "done":
                return f"{phase.name} {phase.state}"
        return "; ".join(f"{name}: {why}" for name, why in self._down.items()) or "ready"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Run one start-up phase; it ends done, or failed when the block raises."""
        phase = self.phases[name]
        phase.state, phase.started, phase.took = "running", time.monotonic(), None
        try:
            yield
        except BaseException:
            phase.state = "failed"
            raise
        else:
            phase.state = "done"
        finally:
            phase.took = time.monotonic() - phase.started

    async def down(self, dependency: str, why: str) -> None:
        """Say that `dependency` has gone; readiness drops until `up` is called for it."""
        self._down[dependency] = why
        await self.publish()

    async def up(self, dependency: str) -> None:
        """Say that `dependency` works again."""
        self._down.pop(dependency, None)
        await self.publish()

    async def drain(self) -> None:
        """Turn readiness off for good."""
        self.draining = True
        await self.publish()

    async def publish(self) -> None:
        """Bring grpc.health.v1 in line with `ready`, for every service name and for ""."""
        for service in self.services:
            await self.grpc.set(service, SERVING if self.ready else NOT_SERVING)

    def body(self) -> dict[str, Any]:
        """Return the JSON body of /v1/health/ready, the shape NIM uses and the start-up phases beside it."""
        return {
            "object": "health.response",
            "message": self.message,
            "ready": self.ready,
            "phases": [phase.as_json() for phase in self.phases.values()],
        }
