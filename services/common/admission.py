"""Admission: bounded concurrency and a bounded, deadline-aware queue in front of the engine.

A call is worked on, waits for a place in order of priority and in turn with those of other principals, or is refused
at once with a truthful Retry-After; one whose deadline has passed is never worked on. Triton's own queue limits
answer without a Retry-After and are not counted, so the bound has to be here.
"""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sortedcontainers import SortedList

from services.common.errors import Kind, ServiceError
from services.common.load import Load
from services.common.request_context import principal_of, priority_of
from services.common.telemetry import SECONDS, Telemetry

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


class Place:
    """What a call holds while it is worked on."""

    def __init__(self, cost: float, recost: Callable[[float], None]) -> None:
        self.cost, self._recost = cost, recost

    def costs(self, cost: float) -> None:
        """Say what it really costs, now that more is known of it."""
        self._recost(cost - self.cost)
        self.cost = cost


@dataclass(order=True, slots=True)
class _Waiter:
    priority: int
    round: int
    order: int
    turn: "asyncio.Future[None]" = field(compare=False)
    placed: bool = field(default=False, compare=False)


class Admission:
    """Lets calls in. `cost` is in the unit of `load`; a lower `priority` number goes first.

    Waiting calls of one priority go in rounds, in each of which every principal (an API key, a user) has one turn, so
    that one's flood does not starve the others. A full queue keeps those whose turn comes first.
    """

    def __init__(self, limits: Limits, load: Load, telemetry: Telemetry) -> None:
        self._limits = limits
        self._load = load
        self._running = 0
        self._outstanding = 0.0  # cost of everything running or waiting
        self._last_cost = 0.0  # of the call that ended last
        self._waiting = SortedList()  # of _Waiter, next first
        self._order = itertools.count()
        self._round = 0
        self._next_round: dict[str, int] = {}  # of each principal
        self._rejected = telemetry.counter("flotilla_admission_rejected", "Calls refused by admission, by reason.")
        self._queued = telemetry.histogram(
            "flotilla_admission_queue_time", "Wait of a call for a place, 0 where it had one at once.", SECONDS, "s"
        )
        self._objective = telemetry.counter(
            "flotilla_latency_objective", "Calls that were completed, by whether in the time of the objective."
        )
        telemetry.gauge("flotilla_admission_running", "Calls being worked on.", lambda: self._running)
        telemetry.gauge("flotilla_admission_waiting", "Calls waiting for a place.", lambda: self.waiting)
        telemetry.gauge("flotilla_saturation", "Offered over sustainable work; 1 is full.", load.saturation)
        telemetry.gauge("flotilla_load_offered", "Cost of a second's calls, over 15 s.", lambda: load.offered_rate)
        telemetry.gauge("flotilla_load_capacity", "Cost a second that is sustained.", lambda: load.capacity)

    @property
    def running(self) -> int:
        """Calls being worked on."""
        return self._running

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._waiting)

    @asynccontextmanager
    async def admit(
        self, cost: float, *, remaining: float | None = None, priority: int = 0, principal: str = ""
    ) -> AsyncIterator[Place]:
        """Hold a place while the block runs, and yield it.

        `remaining` is the caller's time left in seconds. Raises OVERLOADED with `retry_after` when there is no place
        in time, DEADLINE_EXCEEDED when no time is left.
        """
        self._load.offered(cost)
        if remaining is not None and remaining <= 0:
            self._rejected.add(1, {"reason": "expired"})
            raise ServiceError(Kind.DEADLINE_EXCEEDED, "the deadline had passed before the call was started")
        arrived = time.monotonic()
        if self._running >= self._limits.concurrency:
            await self._wait(cost, remaining, priority, principal)
        else:
            self._outstanding += cost
            self._running += 1
        self._queued.record(time.monotonic() - arrived)
        place, completed = Place(cost, self._recost), False
        try:
            yield place
            completed = True
        finally:
            self._running -= 1
            self._outstanding -= place.cost
            self._ended(place.cost, time.monotonic() - arrived, completed)
            self._next()

    def admit_call(self, cost: float, context: Any, user: str = "") -> AbstractAsyncContextManager[Place]:
        """Return `admit` with what a gRPC servicer context says; `user` is who calls where the gateway does not say."""
        return self.admit(
            cost,
            remaining=context.time_remaining(),
            priority=priority_of(context),
            principal=principal_of(context, user),
        )

    def turn_away(self, reason: str) -> ServiceError:
        """Count a call for which there is no room before its cost is known, and return OVERLOADED with `retry_after`.

        It counts as offered with the mean cost of those that are here, or that of the last one that was.
        """
        calls = self._running + self.waiting
        self._load.offered(self._outstanding / calls if calls else self._last_cost)
        return self._refuse(reason)

    async def _wait(self, cost: float, remaining: float | None, priority: int, principal: str) -> None:
        if remaining is not None and self._load.seconds_for(self._outstanding) > remaining:
            raise self._refuse("deadline")
        turn = max(self._round, self._next_round.get(principal, 0))
        waiter = _Waiter(priority, turn, next(self._order), asyncio.get_running_loop().create_future())
        if self.waiting >= self._limits.queue:
            self._make_room(waiter)
        self._next_round[principal] = turn + 1
        self._waiting.add(waiter)
        self._outstanding += cost
        try:
            async with asyncio.timeout(min(self._limits.queue_seconds, math.inf if remaining is None else remaining)):
                await waiter.turn
        except BaseException as error:
            self._outstanding -= cost
            if waiter.placed:  # in the same instant
                self._running -= 1
                self._next()
            else:
                self._waiting.discard(waiter)
            if isinstance(error, TimeoutError):
                raise self._refuse("queue_timeout") from None
            raise

    def _next(self) -> None:
        while self._waiting and self._running < self._limits.concurrency:
            waiter = self._waiting.pop(0)
            waiter.placed = True
            self._round = max(self._round, waiter.round)
            self._running += 1
            if not waiter.turn.done():  # a cancelled one gives its place back when it wakes
                waiter.turn.set_result(None)

        if not self._waiting:
            self._next_round.clear()

    def _make_room(self, newcomer: _Waiter) -> None:
        """Refuse the one whose turn would come last, which may be the newcomer."""
        if not self._waiting or newcomer > self._waiting[-1]:
            raise self._refuse("queue_full")
        last = self._waiting.pop()
        if not last.turn.done():
            last.turn.set_exception(self._refuse("queue_full"))

    def _recost(self, more: float) -> None:
        self._load.offered(more)
        self._outstanding += more

    def _ended(self, cost: float, seconds: float, completed: bool) -> None:
        self._last_cost = cost
        crowded = self._running + self.waiting >= self._load.slots
        met = self._load.ended(cost, seconds, completed=completed, crowded=crowded)
        if completed:
            self._objective.add(1, {"met": str(met).lower()})

    def _refuse(self, reason: str) -> ServiceError:
        self._rejected.add(1, {"reason": reason})
        self._load.refused()
        seconds = self._load.seconds_for(max(self._outstanding, self._last_cost))
        return ServiceError(
            Kind.OVERLOADED,
            f"overloaded ({reason.replace('_', ' ')}): {self._running} calls running, {self.waiting} waiting; "
            f"retry in {max(1, math.ceil(seconds))} s",
            code=reason,
            retry_after=min(max(seconds, RETRY_MIN_SECONDS), RETRY_MAX_SECONDS),
        )
