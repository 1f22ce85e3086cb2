"""Admission: bounded concurrency and a bounded, deadline-aware queue in front of the engine.

A call is worked on, waits for a place in order of priority, or is refused at once with a truthful Retry-After. Triton's
own queue limits answer without one and are not counted, so the bound has to be here.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.common.errors import Kind, ServiceError
from services.common.load import Load
from services.common.telemetry import Telemetry

RETRY_MIN_SECONDS, RETRY_MAX_SECONDS = 0.1, 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may run and wait."""

    concurrency: int
    """Calls worked on at the same time."""
    queue: int
    """Calls that may wait."""
    queue_seconds: float
    """Longest wait, in seconds."""


@dataclass(order=True, slots=True)
class _Waiter:
    priority: int
    order: int
    cost: float = field(compare=False)
    turn: "asyncio.Future[None]" = field(compare=False)


class Admission:
    """Lets calls in. `cost` is in the unit of `load`; a lower `priority` number goes first."""

    def __init__(self, limits: Limits, load: Load, telemetry: Telemetry) -> None:
        self._limits = limits
        self._load = load
        self._running = 0
        self._outstanding = 0.0  # cost of everything running or waiting
        self._waiting: list[_Waiter] = []  # a heap; waiters that gave up stay in it until they are popped
        self._queued = 0
        self._order = itertools.count()
        self._closed = False
        self._rejected = telemetry.counter("flotilla_admission_rejected", "Calls refused by admission, by reason.")
        telemetry.gauge("flotilla_admission_running", "Calls being worked on.", lambda: self._running)
        telemetry.gauge("flotilla_admission_waiting", "Calls waiting for a place.", lambda: self.waiting)
        telemetry.gauge("flotilla_saturation", "Offered over sustainable work; 1 is full.", load.saturation)

    @property
    def running(self) -> int:
        """Calls being worked on."""
        return self._running

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._queued

    def close(self) -> None:
        """Refuse every further call as not started, so that the gateway may try another replica. For the drain."""
        self._closed = True

    @asynccontextmanager
    async def admit(self, cost: float, *, remaining: float | None = None, priority: int = 0) -> AsyncIterator[None]:
        """Hold a place while the block runs.

        `remaining` is the caller's time left in seconds. Raises OVERLOADED with `retry_after` when there is no place
        in time, NOT_STARTED after `close`.
        """
        self._load.offered(cost)
        if self._closed:
            raise self._refuse("draining")
        if self._running >= self._limits.concurrency:
            await self._wait(cost, remaining, priority)
        else:
            self._outstanding += cost
            self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._outstanding -= cost
            self._next()

    async def _wait(self, cost: float, remaining: float | None, priority: int) -> None:
        if self.waiting >= self._limits.queue:
            raise self._refuse("queue_full")
        if remaining is not None and self._load.seconds_for(self._outstanding) > remaining:
            raise self._refuse("deadline")
        waiter = _Waiter(priority, next(self._order), cost, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, waiter)
        self._outstanding += cost
        self._queued += 1
        try:
            async with asyncio.timeout(min(self._limits.queue_seconds, remaining or math.inf)):
                await waiter.turn
        except BaseException as error:
            self._outstanding -= cost
            if waiter.turn.done() and not waiter.turn.cancelled():  # the place was given in the same instant
                self._running -= 1
                self._next()
            waiter.turn.cancel()
            if isinstance(error, TimeoutError):
                raise self._refuse("queue_timeout") from None
            raise
        finally:
            self._queued -= 1

    def _next(self) -> None:
        while self._waiting and self._running < self._limits.concurrency:
            waiter = heapq.heappop(self._waiting)
            if not waiter.turn.done():
                self._running += 1
                waiter.turn.set_result(None)

    def _refuse(self, reason: str) -> ServiceError:
        self._rejected.add(1, {"reason": reason})
        if reason == "draining":
            return ServiceError(Kind.NOT_STARTED, "this replica is shutting down; the call was not started")
        seconds = self._load.seconds_for(self._outstanding)
        return ServiceError(
            Kind.OVERLOADED,
            f"overloaded ({reason.replace('_', ' ')}): {self._running} calls running, {self.waiting} waiting; "
            f"retry in {max(1, math.ceil(seconds))} s",
            code=reason,
            retry_after=min(max(seconds, RETRY_MIN_SECONDS), RETRY_MAX_SECONDS),
        )
