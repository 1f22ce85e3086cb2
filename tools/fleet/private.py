"""A fleet of one's own on free ports, for benchmarks and tests, started and stopped by the commands a user has."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.ports import GATEWAY, SERVICES, free_ports
from tools.cli.console import Problem
from tools.fleet.settings import child_environment
from tools.fleet.state import FleetState, ProcessState, StateFile


class PrivateFleet:
    """A running fleet: its processes by name."""

    def __init__(self, state: FleetState, state_dir: Path) -> None:
        self.supervisor = state.pid
        """Pid of the process that all others are children of."""
        self.state_dir = state_dir
        self._state = state

    def process(self, name: str) -> ProcessState:
        """Return ports and pid of the service `name`."""
        return next(process for process in self._state.processes if process.name == name)

    @property
    def processes(self) -> Sequence[ProcessState]:
        """All services and the gateway."""
        return self._state.processes

    @property
    def url(self) -> str:
        """Address of the gateway's HTTP API."""
        return f"http://127.0.0.1:{self.process(GATEWAY.name).http_port}"

    async def stop(self) -> None:
        """Drain and stop it, as `tools/down` does."""
        await _flotilla({}, "down", self.state_dir)


@asynccontextmanager
async def private_fleet(
    state_dir: Path, environment: Mapping[str, str] | None = None, services: Sequence[str] = ()
) -> AsyncIterator[PrivateFleet]:
    """Run a fleet of `services` (all by default) under `state_dir` with extra `environment` while the block runs.

    Raises Problem when it won't.
    """
    changes = dict(environment or {})
    for service in SERVICES:
        names = ["grpc_port", "http_port", *(["metrics_port"] if service.metrics_port else [])]
        ports = free_ports(len(names))
        changes |= {service.variable(name): str(port) for name, port in zip(names, ports, strict=True)}
    try:
        await _flotilla(changes, "up", state_dir, *services, "--detach")
        state = StateFile(state_dir).read()
        if state is None:
            raise Problem("the fleet has left no state file", f"look into {state_dir}")
        yield PrivateFleet(state, state_dir)
    finally:
        await _flotilla(changes, "down", state_dir)


async def _flotilla(environment: Mapping[str, str], subcommand: str, state_dir: Path, *options: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "tools.cli",
        subcommand,
        "--state-dir",
        str(state_dir),
        *options,
        env=child_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise Problem(f"flotilla {subcommand}: {output.decode().strip()}", f"look into {state_dir / 'logs'}")
