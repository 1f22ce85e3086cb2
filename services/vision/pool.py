"""The pool: threads for everything that touches pixels, and the memory that decoded pictures may take."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from services.vision.meter import Meter
from services.vision.turnstile import Turn, Turnstile

Result = TypeVar("Result")


class PixelPool:
    """As many pictures are decoded at a time as there are threads; what is given up before its turn never runs."""

    def __init__(self, threads: int, memory_bytes: int, meter: Meter) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="pixels")
        self._threads, self._memory = Turnstile(threads), Turnstile(memory_bytes)
        self._meter = meter

    def start_of(self, priority: int) -> Turn:
        """Return the turn of the first picture of a call that comes now."""
        return Turn(priority, self._memory.position)

    @asynccontextmanager
    async def memory(self, size: int, turn: Turn) -> AsyncIterator[None]:
        """Hold `size` bytes while the block runs."""
        async with self._memory.through(size, turn):
            yield

    async def run(self, work: Callable[[], Result], turn: Turn) -> Result:
        """Return what `work` returns, from a thread. A thread that has begun goes on when its caller is cancelled."""
        await self._threads.enter(1, turn)
        running = asyncio.ensure_future(self._run(work))
        running.add_done_callback(self._done)
        return await asyncio.shield(running)

    async def _run(self, work: Callable[[], Result]) -> Result:
        with self._meter.working():
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _done(self, running: "asyncio.Future[Result]") -> None:
        self._threads.leave(1)
        if not running.cancelled():
            running.exception()  # nobody may be left to ask for it
