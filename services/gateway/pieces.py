"""Pieces of an answer as the service sends them: read ahead, so that what is ready together leaves together."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.errors import ServiceError
from services.gateway.errors import rename, unexpected

_log = logging.getLogger(__name__)

READ_AHEAD = 512
AT_ONCE = 16
"""Calls of one request that run at the same time."""
TOGETHER_SECONDS = 0.005
"""Pieces that come so soon after others wait for more: handing over a few costs no more than handing over one."""

Piece = TypeVar("Piece")


@dataclass(frozen=True, slots=True)
class Call(Generic[Piece]):
    """One call of a request."""

    pieces: AsyncGenerator[Piece, None]
    public: Callable[[str], str]
    """The caller's name of a field that an error names."""


@dataclass(frozen=True, slots=True)
class _End:
    """A call is over."""

    error: ServiceError | None


class _Silence:
    """Nothing came for a while."""


class Pieces(Generic[Piece]):
    """The pieces of one or more calls, with the position of their call. To be closed, which cancels what still runs."""

    def __init__(self, calls: Sequence[Call[Piece]], notice_silence: float | None = None) -> None:
        """After `notice_silence` seconds without a piece, `ready` returns none; by default it waits."""
        self._queue: asyncio.Queue[tuple[int, Piece] | _End | _Silence] = asyncio.Queue(READ_AHEAD)
        self._held: tuple[int, Piece] | _End | _Silence | None = None
        self._running = self._unread = len(calls)
        self._all_read = asyncio.Event()
        self._handed_over = 0.0
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks = [asyncio.create_task(self._read(i, call)) for i, call in enumerate(calls)]
        self._seconds, self._silent = notice_silence, True
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer()

    async def begin(self) -> None:
        """Wait until something can be said: there is a piece, or a long silence. Raises ServiceError."""
        self._held = await self._queue.get()
        if isinstance(self._held, _End) and self._held.error is not None:
            raise self._held.error

    async def ready(self) -> list[tuple[int, Piece]] | None:
        """Wait for pieces and return all there are, none after a silence. None at the end. Raises ServiceError.

        The first piece, the end, and pieces with time between them are not held up.
        """
        pieces: list[tuple[int, Piece]] = []
        while self._running and not (pieces and self._queue.empty()):
            item, self._held = self._held or await self._queue.get(), None
            if isinstance(item, tuple):
                if not pieces:
                    await self._wait_for_more()
                pieces.append(item)
            elif isinstance(item, _Silence):
                return pieces
            elif item.error is None:
                self._running -= 1
            elif not pieces:
                raise item.error
            else:
                self._held = item
                break
        self._silent = False
        self._handed_over = asyncio.get_running_loop().time()
        return pieces or None

    async def _wait_for_more(self) -> None:
        until = self._handed_over + TOGETHER_SECONDS
        if self._all_read.is_set() or until <= asyncio.get_running_loop().time():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._all_read.wait()

    async def close(self) -> None:
        """Cancel what still runs."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, position: int, call: Call[Piece]) -> None:
        end = _End(None)
        try:
            async with self._turns, aclosing(call.pieces) as pieces:
                async for piece in pieces:
                    await self._queue.put((position, piece))
        except ServiceError as error:
            rename(error, call.public)
            end = _End(error)
        except Exception:
            _log.exception("unexpected failure while an answer was read")
            end = _End(unexpected())
        self._unread -= 1
        if end.error is not None or not self._unread:
            self._all_read.set()
        await self._queue.put(end)

    def _set_timer(self) -> None:
        if self._seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._notice_silence)

    def _notice_silence(self) -> None:
        if self._silent and self._queue.empty():
            self._queue.put_nowait(_Silence())
        self._silent = True
        self._set_timer()
