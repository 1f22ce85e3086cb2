"""How each process of a fleet is, as its own health port tells it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from pydantic import BaseModel, ValidationError

from services.common.ports import GATEWAY
from tools.fleet.plan import reachable
from tools.fleet.state import ProcessState

PROBE_SECONDS = 2.0


class Phase(BaseModel):
    """A step of a service's start."""

    name: str
    state: str
    seconds: float | None = None


class Behind(BaseModel):
    """What the gateway says of a service behind it."""

    ready: bool = False
    message: str = ""


class HealthBody(BaseModel):
    """The body of /v1/health/ready."""

    ready: bool | None = None
    message: str = ""
    phases: list[Phase] = []
    services: dict[str, Behind] = {}


@dataclass(frozen=True, slots=True)
class Health:
    """A process as it is now."""

    process: ProcessState
    ready: bool = False
    message: str = ""
    phases: list[Phase] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The state in a few words."""
        if self.process.stopping:
            return "draining" if self.process.pid else "stopped"
        if self.ready:
            return "ready"
        running = [phase.name for phase in self.phases if phase.state in ("running", "failed")]
        return self.message or ", ".join(running) or "starting"


def draining(processes: Sequence[ProcessState]) -> list[Health]:
    """Return the view of a fleet that stops: the gateway first, the others wait for it."""
    return [
        Health(process, message="draining" if process.name == GATEWAY.name else f"waits for the {GATEWAY.name}")
        for process in processes
    ]


async def observe(client: httpx.AsyncClient, processes: Sequence[ProcessState]) -> list[Health]:
    """Ask every process how it is; the gateway counts as ready when it also sees the others as ready."""
    bodies = await asyncio.gather(*(_body(client, process) for process in processes))
    names = {process.name for process in processes}
    found = []
    for process, body in zip(processes, bodies, strict=True):
        unseen = [
            name
            for name, behind in body.services.items()
            if name in names and name != process.name and not behind.ready
        ]
        ready = bool(body.ready) and not (process.name == GATEWAY.name and unseen)
        message = f"waits for {', '.join(unseen)}" if body.ready and unseen else body.message
        found.append(Health(process, ready, message, body.phases))
    return found


def health_client() -> httpx.AsyncClient:
    """Return a client for `observe`: never through a proxy, never patient."""
    return httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False)


async def _body(client: httpx.AsyncClient, process: ProcessState) -> HealthBody:
    if process.pid is None:
        return HealthBody(ready=False, message="waits to be started again" if process.restarts else "starting")
    try:
        answer = await client.get(f"http://{reachable(process.host)}:{process.http_port}/v1/health/ready")
        body = HealthBody.model_validate_json(answer.content)
    except (httpx.HTTPError, ValidationError):
        return HealthBody(ready=False)
    return body.model_copy(update={"ready": answer.is_success and body.ready is not False})
