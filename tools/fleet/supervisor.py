"""The life of a fleet in the process that owns it: start, wait until ready, watch, drain."""

import asyncio
import signal
from collections.abc import Callable, Sequence

import httpx
from rich.console import Console

from tools.cli.console import Problem
from tools.fleet.fleet import Fleet
from tools.fleet.health import draining, health_client, observe
from tools.fleet.plan import Launch
from tools.fleet.progress import Progress
from tools.fleet.state import StateFile

TICK_SECONDS = 0.25


async def supervise(
    launches: Sequence[Launch],
    state_file: StateFile,
    console: Console,
    on_ready: Callable[[Fleet, float], None],
    drain_seconds: float,
) -> None:
    """Run a fleet until SIGINT, SIGTERM or SIGHUP, then drain it.

    Problem when it does not become ready, or cannot be drained.
    """
    stop = asyncio.Event()
    fleet = Fleet(launches, state_file, lambda text: console.print(text, markup=False), drain_seconds)
    _handle_signals(fleet, stop)
    fleet.start()
    failure = asyncio.create_task(fleet.failure())
    stopped = asyncio.create_task(stop.wait())
    try:
        async with health_client() as client:
            with Progress(console, "Starting the fleet") as progress:
                ready = await _until_ready(fleet, client, progress, (failure, stopped))
            if ready:
                fleet.settle()
                on_ready(fleet, progress.seconds)
                await _watch(fleet, client, console, stopped)
            elif failure.done():
                raise failure.result()
    except Problem as problem:
        fleet.state.problem = (problem.message, problem.next_step)
        raise
    finally:
        failure.cancel()
        stopped.cancel()
        await _drain(fleet, console)
    if killed := [member.launch.name for member in fleet.members if member.killed]:
        raise Problem(f"{', '.join(killed)} was ended before it had drained", "requests in flight were lost")


async def _until_ready(
    fleet: Fleet, client: httpx.AsyncClient, progress: Progress, ends: tuple[asyncio.Task[Problem], asyncio.Task[bool]]
) -> bool:
    while not any(end.done() for end in ends):
        healths = await observe(client, fleet.state.processes)
        progress.update(healths)
        if all(health.ready for health in healths):
            return True
        await asyncio.wait(ends, timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    return False


async def _watch(fleet: Fleet, client: httpx.AsyncClient, console: Console, stopped: asyncio.Task[bool]) -> None:
    with Progress(console, "Running") as progress:
        while not stopped.done():
            progress.update(await observe(client, fleet.state.processes), line=True)
            await asyncio.wait([stopped], timeout=1.0)


async def _drain(fleet: Fleet, console: Console) -> None:
    with Progress(console, "Draining and stopping (Ctrl-C again ends everything at once)") as progress:
        ending = asyncio.create_task(fleet.stop())
        while not ending.done():
            progress.update(draining(fleet.state.processes))
            await asyncio.wait([ending], timeout=TICK_SECONDS)
        progress.update(draining(fleet.state.processes))
    await ending
    console.print(f"Stopped in {progress.seconds:.1f} s", markup=False)


def _handle_signals(fleet: Fleet, stop: asyncio.Event) -> None:
    def interrupt() -> None:
        if stop.is_set():
            fleet.kill()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, stop.set)
