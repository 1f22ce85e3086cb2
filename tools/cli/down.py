"""`flotilla down`: drains and stops the fleet that runs here."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tools.cli.console import console
from tools.fleet.detached import until_stopped
from tools.fleet.settings import fleet_settings
from tools.fleet.state import StateFile


def down(state_dir: Annotated[Path | None, typer.Option(help="Folder the fleet was started with.")] = None) -> None:
    """Finish the requests in flight and stop the fleet of this machine.

    Example: `tools/down`
    """
    state_file = StateFile((state_dir or fleet_settings().state_dir).absolute())
    state = state_file.running()
    if state is None:
        state_file.remove()
        console.print("Nothing is running here.")
        return
    with suppress(ProcessLookupError):
        os.kill(state.pid, signal.SIGTERM)
    seconds = asyncio.run(until_stopped(state, state_file, console))
    console.print(f"Stopped in {seconds:.1f} s")
