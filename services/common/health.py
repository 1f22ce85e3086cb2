"""Health: one object that knows whether a process may get traffic, told over gRPC and HTTP alike.

Live means the process and its supervisor work. Ready means start-up is done, the ports are open, every dependency is up
and no drain has begun. It must not know what the phases or dependencies are.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class Phase:
    """One step of start-up: pending, running, done or failed, and the seconds it has taken."""

    name: str
    state: str = "pending"
    started: float = 0.0
    took: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the phase as it stands in the ready body."""
        return {"name": self.name, "state": self.state, "seconds": round(self.seconds, 3)}

    @property
    def seconds(self) -> float:
        """How long it has taken, so far where it runs; 0 before it begins."""
        if self.took is not None:
            return self.took
        return time.monotonic() - self.started if self.state == "running" else 0.0


@dataclass(slots=True)
class Health:
    """Readiness of one process: start-up phases, open ports, dependencies that come and go, drain."""

    services: tuple[str, ...]
    phases: dict[str, Phase] = field(default_factory=dict)
    listening: bool = False
    draining: bool = False
    closed: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _down: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, services: Iterable[str], phases: Iterable[str]) -> "Health":
        """Return health for the gRPC service names `services` and the start-up phases `phases`, in order."""
        return cls(services=("", *services), phases={name: Phase(name) for name in phases})

    @property
    def ready(self) -> bool:
        """Whether new work is welcome."""
        started = self.listening and all(phase.state == "done" for phase in self.phases.values())
        return started and not self.draining and not self._down

    @property
    def message(self) -> str:
        """One line that says why, for people and for the ready body."""
        if self.draining:
            return "draining"
        for phase in self.phases.values():
            if phase.state != "done":
                return f"{phase.name} {phase.state}"
        if self._down:
            return "; ".join(f"{name}: {why}" for name, why in self._down.items())
        return "ready" if self.listening else "opening the ports"

    @property
    def grpc(self) -> "HealthServicer":
        """grpc.health.v1 over this object."""
        return HealthServicer(self)

    def status(self, service: str) -> int | None:
        """Return the grpc.health.v1 status of a gRPC service, None when it is not ours. "" is the whole process."""
        if service not in self.services:
            return None
        return int(SERVING if self.ready else NOT_SERVING)

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

    async def open(self) -> None:
        """Say that the ports are open."""
        self.listening = True
        await self.publish()

    async def drain(self) -> None:
        """Turn readiness off for good."""
        self.draining = True
        await self.publish()

    async def close(self) -> None:
        """End every Watch, which would otherwise hold up the stop of a server for its whole grace."""
        self.closed = True
        await self.publish()

    async def publish(self) -> None:
        """Tell every watcher to look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until something may have changed."""
        await self._changed.wait()

    def body(self) -> dict[str, Any]:
        """Return the JSON body of /v1/health/ready, the shape NIM uses and the start-up phases beside it."""
        return {
            "object": "health.response",
            "message": self.message,
            "ready": self.ready,
            "phases": [phase.as_json() for phase in self.phases.values()],
        }


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1. grpcio's own forgets the other watchers of a service when one leaves, and never ends a Watch."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(  # noqa: N802  # the names are those of the contract
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Return the status now; NOT_FOUND for a service that is not ours."""
        status = self._health.status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service '{request.service}'")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Send the status now and whenever it changes; SERVICE_UNKNOWN for a service that is not ours."""
        sent: int | None = None
        while True:
            status = self._health.status(request.service) or SERVICE_UNKNOWN
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
            elif self._health.closed:
                return
            else:
                await self._health.changed()
