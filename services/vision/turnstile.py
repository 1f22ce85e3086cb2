"""The turnstile: shares out a scarce amount (threads, memory) so that calls take turns picture by picture.

Start-time fair queueing, as the batcher does it: a call with 4,096 pictures does not make one with a single picture
wait for all of them.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sortedcontainers import SortedList


@dataclass(frozen=True, order=True, slots=True)
class Turn:
    """When something is due: a lower priority number first, then the lower position."""

    priority: int
    position: float


@dataclass(order=True, slots=True)
class _Waiter:
    turn: Turn
    order: int
    amount: int = field(compare=False)
    passed: "asyncio.Future[None]" = field(compare=False)


class Turnstile:
    """Lets through what fits into what is left; the next in turn waits for its amount and holds up those behind."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._left = capacity, capacity
        self._waiting = SortedList()  # of _Waiter, next first
        self._order = itertools.count()
        self.position = 0.0
        """Where a call that comes now starts."""

    @asynccontextmanager
    async def through(self, amount: int, turn: Turn) -> AsyncIterator[None]:
        """Hold `amount` while the block runs; more than there is counts as all there is."""
        amount = min(amount, self._capacity)
        await self.enter(amount, turn)
        try:
            yield
        finally:
            self.leave(amount)

    async def enter(self, amount: int, turn: Turn) -> None:
        """Wait for `amount`, which must be given back by `leave`."""
        waiter = _Waiter(turn, next(self._order), amount, asyncio.get_running_loop().create_future())
        self._waiting.add(waiter)
        self._open()
        try:
            await waiter.passed
        except asyncio.CancelledError:
            if waiter.passed.done() and not waiter.passed.cancelled():  # it was let through in the same instant
                self.leave(amount)
            else:
                self._waiting.discard(waiter)
                self._open()
            raise

    def leave(self, amount: int) -> None:
        """Give `amount` back."""
        self._left += amount
        self._open()

    def _open(self) -> None:
        while self._waiting and self._waiting[0].amount <= self._left:
            waiter = self._waiting.pop(0)
            if waiter.passed.cancelled():
                continue
            self._left -= waiter.amount
            self.position = max(self.position, waiter.turn.position)
            waiter.passed.set_result(None)
