"""Load: what was offered, what this replica can sustain, and how full that makes it.

Work is counted in the service's own unit of cost (tokens, frames of speech, slot-seconds), as estimated when it is
offered; what was done is counted in the same estimates, so that their errors cancel out.
"""

import math
import time
from collections import deque
from collections.abc import Callable

from services.common.capacity import Capacity, Objective

WINDOW_SECONDS = 15.0


class Load:
    """Offered and sustained work of one replica.

    saturation = (cost offered in the last 15 s / 15) / capacity, or the fullest of what else bounds the replica

    `capacity` is the highest rate that still meets the latency objective: see Capacity.
    """

    def __init__(
        self, slots: int, clock: Callable[[], float] = time.monotonic, objective: Objective | None = None
    ) -> None:
        """`slots` run at the same time. `objective` says when a call is late; without one, none ever is."""
        self.slots, self.objective = slots, objective or Objective()
        self._clock = clock
        self._offered: deque[list[float]] = deque()  # [second, cost]
        self._capacity = Capacity(slots, WINDOW_SECONDS)
        self._bounds: list[Callable[[], float]] = []

    def bounded_by(self, use: Callable[[], float]) -> None:
        """Let saturation be at least `use()`: how much of a memory or of places is taken, 1 being all."""
        self._bounds.append(use)

    def offered(self, cost: float) -> None:
        """Count work that callers asked for, refused work included."""
        second = float(int(self._clock()))
        self._forget()
        if self._offered and self._offered[-1][0] == second:
            self._offered[-1][1] += cost
        else:
            self._offered.append([second, cost])

    def worked(self, cost: float, seconds: float) -> None:
        """Count work that one of the slots has done in `seconds`: a guess at the capacity until calls tell better."""
        self._capacity.worked(cost, seconds)

    def ended(self, cost: float, seconds: float, *, completed: bool, crowded: bool) -> bool:
        """Count a call that took `seconds` from its arrival; return whether it met the objective.

        `crowded` says that as many others as there are slots were there with it: a call that is slow though it is
        alone tells nothing about capacity.
        """
        in_time = seconds <= self.objective.seconds_for(cost)
        self._capacity.ended(self._clock(), cost if completed else 0.0, late=crowded and not in_time, crowded=crowded)
        return in_time

    def refused(self) -> None:
        """Say that a call was turned away because there was too much to do."""
        self._capacity.ended(self._clock(), 0.0, late=True, crowded=True)

    @property
    def capacity(self) -> float:
        """Cost per second that this replica sustains; 0 while nothing is known."""
        return self._capacity.rate(self._clock())

    @property
    def offered_rate(self) -> float:
        """Cost per second that was asked for in the last 14 whole seconds and this one."""
        self._forget()
        now = self._clock()
        return sum(cost for _, cost in self._offered) / (now - math.ceil(now - WINDOW_SECONDS))

    def saturation(self) -> float:
        """Offered over sustainable work: 1 is full, more is too much. The bounds alone while capacity is unknown."""
        capacity = self.capacity
        rate = self.offered_rate / capacity if capacity else 0.0
        return max((rate, *(use() for use in self._bounds)))

    def seconds_for(self, cost: float) -> float:
        """Return how long this replica needs for `cost`; 0 while capacity is unknown."""
        capacity = self.capacity
        return cost / capacity if capacity else 0.0

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._offered and self._offered[0][0] < oldest:
            self._offered.popleft()
