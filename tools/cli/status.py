"""`flotilla status`: what runs here, how it is and what it costs."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tools.cli.console import console
from tools.fleet.health import Health, health_client, observe
from tools.fleet.progress import duration
from tools.fleet.settings import fleet_settings
from tools.fleet.state import FleetState, StateFile
from tools.fleet.summary import plain_table
from tools.fleet.usage import memory_bytes, uptime_seconds


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Folder the fleet was started with.")] = None,
) -> None:
    """Show the fleet of this machine. Exit status 0 when everything is ready, else 1.

    Example: `tools/status --json`
    """
    state = StateFile((state_dir or fleet_settings().state_dir).absolute()).running()
    healths = asyncio.run(_observe(state)) if state else []
    ready = bool(healths) and all(health.ready for health in healths)
    if as_json:
        print(
            json.dumps({"running": state is not None, "ready": ready, "services": [*map(_fields, healths)]}, indent=2)
        )
    elif state is None:
        console.print("Nothing is running here. tools/up starts the fleet.")
    else:
        console.print(_table(healths))
    raise typer.Exit(0 if ready else 1)


async def _observe(state: FleetState) -> list[Health]:
    async with health_client() as client:
        return await observe(client, state.processes)


def _table(healths: list[Health]) -> Table:
    table = plain_table("service", "state", "pid", "memory", "up", "HTTP", "gRPC", "restarts")
    for health in healths:
        process = health.process
        table.add_row(
            process.name,
            _state(health),
            str(process.pid or ""),
            f"{memory_bytes(process) / 2**20:.0f} MiB",
            duration(uptime_seconds(process)),
            str(process.http_port),
            str(process.grpc_port),
            str(process.restarts),
        )
    return table


def _state(health: Health) -> Text:
    phases = ", ".join(f"{phase.name} {phase.state}" for phase in health.phases if phase.state != "done")
    return Text(health.summary + (f" ({phases})" if phases else ""), "green" if health.ready else "yellow")


def _fields(health: Health) -> dict[str, object]:
    process = health.process
    return {
        "name": process.name,
        "ready": health.ready,
        "state": health.summary,
        "phases": [phase.model_dump() for phase in health.phases],
        "pid": process.pid,
        "memory_bytes": memory_bytes(process),
        "uptime_seconds": round(uptime_seconds(process), 1),
        "restarts": process.restarts,
        "host": process.host,
        "http_port": process.http_port,
        "grpc_port": process.grpc_port,
        "metrics_port": process.metrics_port,
    }
