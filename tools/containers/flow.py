"""The whole way of a user: images built, volume filled, fleet up, asked, hurt, stopped, nothing left behind."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.ports import GATEWAY, SERVICES, free_ports
from tools.cli.console import Problem, console
from tools.containers import faults, images, monitoring, volume
from tools.containers.clients import try_clients
from tools.containers.compose import Compose
from tools.containers.engine import STATE
from tools.model_preparation.progress import step

PROJECT = "flotilla-test"
VOLUME = "flotilla-test-models"
HEALTHY_SECONDS = 60.0
IDLE_MIB = 3 * 1024.0
SETTLING_SECONDS = 15.0
"""What comes back within it counts as the memory of work that is done: graphs give theirs back after some seconds."""
MODALITIES = tuple(service.name for service in SERVICES if service is not GATEWAY)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does."""

    services: Sequence[str]
    models_from: Path | None = None
    wheels: Path | None = None
    build: bool = True
    hurt: bool = True
    air_gap: bool = False
    monitoring: bool = False

    @property
    def whole(self) -> bool:
        """Whether all services take part."""
        return set(self.services) == set(MODALITIES)


def run(command: Sequence[str], base_images: Mapping[str, str], plan: Plan) -> None:
    """Go all the way, with other images than compose.yaml's where variables name some.

    Raises Problem at the first thing that is not as it should be.
    """
    http, grpc, metrics, prometheus = free_ports(4)
    variables = {
        "FLOTILLA_MODELS_VOLUME": VOLUME,
        "FLOTILLA_HTTP_PORT": str(http),
        "FLOTILLA_GRPC_PORT": str(grpc),
        "FLOTILLA_METRICS_PORT": str(metrics),
        "FLOTILLA_PROMETHEUS_PORT": str(prometheus),
        **base_images,
        **{f"FLOTILLA_GATEWAY_{name.upper()}_ADDRESSES": "" for name in MODALITIES if name not in plan.services},
    }
    if plan.wheels is not None:  # CPU builds of torch among them, as a rule
        variables["FLOTILLA_TORCH_INDEX_URL"] = ""
    compose = Compose(command, PROJECT, variables, _overrides(plan))
    wanted = [*plan.services, GATEWAY.name, *([] if plan.models_from else [images.PREPARATION])]
    if plan.build:
        seconds = images.build(compose, wanted)
        images.print_sizes(wanted, seconds)
    for service in wanted:
        images.smoke(service)
    with _gone_afterwards(compose):
        _fill(compose, plan)
        _try(compose, f"http://127.0.0.1:{http}", plan, prometheus)
    console.print("all that was asked of the containers held")


def _overrides(plan: Plan) -> list[Path]:
    if plan.wheels is None:
        return []
    STATE.mkdir(parents=True, exist_ok=True)
    path = STATE / "wheels.yaml"
    path.write_text(volume.WHEELS % plan.wheels.absolute())
    return [path]


def _fill(compose: Compose, plan: Plan) -> None:
    if plan.models_from is not None:
        volume.copy_store(plan.models_from, VOLUME, PROJECT, plan.services[0])
        return
    with step("Preparing the models in their container"):
        volume.prepare(compose)


def _try(compose: Compose, url: str, plan: Plan, prometheus: int) -> None:
    _up(compose, plan)
    try_clients(url, plan.services)
    too_much = _idle(compose)
    if plan.monitoring:
        monitoring.try_prometheus(compose, prometheus, plan.services)
    if plan.hurt:
        for victim in plan.services:
            asyncio.run(faults.kill_under_load(compose, url, plan.services, victim))
        asyncio.run(faults.kill_gateway(compose, url, plan.services))
    asyncio.run(faults.stop_under_load(compose, url, plan.services))
    if plan.air_gap:
        compose("down")
        with faults.no_way_out():
            _up(compose, plan)
            try_clients(url, plan.services)
        console.print("  cut off from the network: down, up and every request work, nothing was sent out")
    if too_much:
        raise Problem(too_much)


def _up(compose: Compose, plan: Plan) -> None:
    begin = time.monotonic()
    with step("Starting the fleet"):
        # A part of the fleet has no preparation before it: that would be of all models.
        part = [] if plan.whole and not plan.models_from else ["--no-deps", *plan.services, GATEWAY.name]
        compose("up", "--detach", "--no-build", "--wait", *part)
    took = time.monotonic() - begin
    if took > HEALTHY_SECONDS:
        console.print(f"  warning: healthy after {took:.0f} s, the goal is {HEALTHY_SECONDS:.0f} s", markup=False)


def _idle(compose: Compose) -> str:
    """Return what is wrong with the memory of the idle fleet, which need not keep the rest from being tried."""
    time.sleep(SETTLING_SECONDS)
    memory = compose.memory_mib()
    console.print(f"  idle memory: {', '.join(f'{name} {mib:.0f}' for name, mib in sorted(memory.items()))} MiB")
    console.print(f"  idle memory in all: {sum(memory.values()):.0f} MiB")
    much = sum(memory.values()) > IDLE_MIB
    return f"the idle fleet takes {sum(memory.values()):.0f} MiB, more than {IDLE_MIB:.0f}" if much else ""


@contextmanager
def _gone_afterwards(compose: Compose) -> Iterator[None]:
    """Remove containers, networks and volumes whatever happens; of a failure, keep what the services said."""
    try:
        yield
    except BaseException:
        STATE.mkdir(parents=True, exist_ok=True)
        (STATE / "compose.log").write_text(compose("logs", "--no-color"))
        console.print(f"  what the services said: {STATE / 'compose.log'}", markup=False)
        raise
    finally:
        compose("down", "--volumes", "--timeout", "60")
