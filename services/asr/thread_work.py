"""Blocking work in a thread that is over when its caller goes on, whatever happens."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def run_to_end(
    work: Callable[[], Result],
    executor: Executor | None = None,
    *,
    give_up: Callable[[], None] = lambda: None,
    dispose: Callable[[Result], None] = lambda _: None,
) -> Result:
    """Return what `work` returns, from a thread of `executor` (None: the event loop's own).

    When the caller is cancelled `give_up` is called, which tells the work to stop soon, and the cancellation goes on
    when it has stopped: nothing the caller then closes is still in use. A result that comes all the same is disposed.
    """
    running = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        give_up()
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled() and running.exception() is None:
            dispose(running.result())
        raise
