"""A fleet in the background: its supervisor in a session of its own, and what others show of it while it changes."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence

from rich.console import Console

from tools.cli.console import Problem
from tools.fleet.health import draining, health_client, observe
from tools.fleet.logs import last_error, log_path, rotate
from tools.fleet.progress import Progress
from tools.fleet.state import FleetState, StateFile, alive
from tools.fleet.supervisor import TICK_SECONDS


def start(arguments: Sequence[str], state_file: StateFile, console: Console) -> FleetState:
    """Start a supervisor with these arguments of the command and wait, showing progress, until its fleet is ready."""
    log = log_path(state_file.logs, "fleet")
    rotate(log)
    with log.open("ab") as output:
        supervisor = subprocess.Popen(
            (sys.executable, "-P", "-m", "tools.cli", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        return asyncio.run(_until_ready(supervisor, state_file, console))
    except BaseException:
        if supervisor.poll() is None:
            supervisor.send_signal(signal.SIGTERM)
            console.print("Stopping what was started", markup=False)
            supervisor.wait()
        state_file.remove()
        raise


async def _until_ready(supervisor: subprocess.Popen[bytes], state_file: StateFile, console: Console) -> FleetState:
    async with health_client() as client:
        with Progress(console, "Starting the fleet in the background") as progress:
            while supervisor.poll() is None:
                state = state_file.read()
                if state and state.pid == supervisor.pid:
                    progress.update(await observe(client, state.processes))
                    if state.ready:
                        break
                await asyncio.sleep(TICK_SECONDS)
    state = state_file.read()
    if state and state.pid == supervisor.pid and state.ready and supervisor.poll() is None:
        console.print(f"[green]Ready[/green] in {progress.seconds:.1f} s")
        return state
    log = log_path(state_file.logs, "fleet")
    if state and state.pid == supervisor.pid and state.problem:
        raise Problem(*state.problem)
    raise Problem(f"the supervisor ended: {last_error(log) or 'it said nothing'}", f"read {log}")


async def until_stopped(state: FleetState, state_file: StateFile, console: Console) -> float:
    """Wait, showing progress, until a supervisor that was told to stop is gone; return the seconds it took."""
    with Progress(console, "Draining and stopping") as progress:
        while alive(state.pid, state.created):
            state = state_file.read() or state
            progress.update(draining(state.processes))
            await asyncio.sleep(TICK_SECONDS)
    return progress.seconds
