"""`flotilla up`: checks, prepares the models, starts the fleet and stays with it, or leaves it in the background."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from services.common.ports import GATEWAY, SERVICES, Service, is_loopback
from services.common.settings import load
from tools.cli.console import Problem, console
from tools.cli.settings import KeySettings
from tools.fleet import detached
from tools.fleet.fleet import Fleet
from tools.fleet.plan import Launch, choose, plan
from tools.fleet.ports import check_ports
from tools.fleet.settings import FleetSettings, child_environment, fleet_settings
from tools.fleet.state import StateFile
from tools.fleet.summary import print_summary
from tools.fleet.supervisor import supervise

_NAMES = ", ".join(service.name for service in SERVICES if service is not GATEWAY)


def up(
    services: Annotated[
        list[str] | None, typer.Argument(help=f"Which to start; all when none is named. {_NAMES}")
    ] = None,
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it running in the background.")] = False,
    host: Annotated[str | None, typer.Option(help="Address the gateway listens on; loopback by default.")] = None,
    port: Annotated[int | None, typer.Option(min=1, help="HTTP port of the gateway; gRPC is +1, metrics +2.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Folder for logs and state.")] = None,
    supervisor: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start the fleet on this machine and wait until it is ready. The gateway is always part of it.

    Ctrl-C finishes the requests in flight and stops everything.

    Examples: `tools/up`, `tools/up embedding --port 9000`, `tools/up --detach`
    """
    settings = fleet_settings()
    settings = settings.model_copy(update={"state_dir": (state_dir or settings.state_dir).absolute()})
    state_file = StateFile(settings.state_dir)
    chosen = choose(services or [])
    launches = plan(chosen, settings, host, port)
    with state_file.locked() as ours:
        _refuse_second(state_file, ours)
        check_ports(launches)
        if not supervisor:
            _refuse_if_open(launches[-1])
            _prepare_models(settings, chosen)
        if not detach:
            _stay(launches, state_file, settings, supervisor)
            return
    state = detached.start(_again(services or [], host, port, settings), state_file, console)
    print_summary(console, state.processes, sys.executable)
    console.print("Running in the background. tools/status shows it, tools/down stops it.")


def _stay(launches: Sequence[Launch], state_file: StateFile, settings: FleetSettings, supervisor: bool) -> None:
    def ready(fleet: Fleet, seconds: float) -> None:
        console.print(f"[green]Ready[/green] in {seconds:.1f} s")
        print_summary(console, fleet.state.processes, sys.executable)

    try:
        asyncio.run(supervise(launches, state_file, console, ready, settings.drain_grace_seconds))
    except Problem:
        if not supervisor:  # else the waiting parent reads it from the state file
            state_file.remove()
        raise
    state_file.remove()


def _refuse_second(state_file: StateFile, ours: bool) -> None:
    running = state_file.running()
    if running:
        raise Problem(f"a fleet runs here already (pid {running.pid})", "tools/status shows it, tools/down stops it")
    if not ours:
        raise Problem("another tools/up is starting a fleet here", "wait for it, or pass another --state-dir")


def _prepare_models(settings: FleetSettings, services: Sequence[Service]) -> None:
    names = [service.name for service in services if service is not GATEWAY]
    if not names:
        return
    wanted = [part for name in names for part in ("--service", name)]
    command = (sys.executable, "-P", "-m", "tools.cli", "models", "fetch", *wanted)
    environment = child_environment({"FLOTILLA_MODEL_STORE": str(settings.model_store)})
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        raise typer.Exit(code)  # it has said why


def _refuse_if_open(gateway: Launch) -> None:
    keys = load(KeySettings)
    if keys.keys_file or is_loopback(gateway.host):
        return
    if not keys.allow_keyless:
        raise Problem(
            f"the gateway would listen on {gateway.host} and ask for no API key: anyone who reaches it could use it",
            "tools/keys create NAME --file keys.json, then FLOTILLA_GATEWAY_KEYS_FILE=keys.json; "
            "or, to let everybody in, FLOTILLA_GATEWAY_ALLOW_KEYLESS=true",
        )
    console.print(f"[yellow]warning:[/yellow] the gateway listens on {gateway.host} and asks for no API key")


def _again(services: Sequence[str], host: str | None, port: int | None, settings: FleetSettings) -> list[str]:
    options = ["--host", host] if host else []
    options += ["--port", str(port)] if port else []
    return ["up", *services, *options, "--state-dir", str(settings.state_dir), "--supervisor"]
