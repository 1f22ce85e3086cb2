"""Load: what was offered, what the engine can sustain, and how full that makes this replica.

Work is counted in the service's own unit of cost (tokens, audio seconds, pixels). Capacity is learnt from the engine's
own busy time, so it needs no configuration and follows the hardware.
"""

import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 15.0
HALF_LIFE_BUSY_SECONDS = 30.0


class Load:
    """Offered and sustained work of one replica.

    saturation = (cost offered in the last 15 s / 15) / capacity, or the fullest of what else bounds the replica
    capacity   = slots * sum(cost worked) / sum(seconds worked), older work weighing half after 30 busy seconds
    """

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots = slots
        self._clock = clock
        self._offered: deque[list[float]] = deque()  # [second, cost]
        self._worked = 0.0
        self._busy = 0.0
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
        """Count work that one of the slots has done in `seconds`."""
        decay = 0.5 ** (seconds / HALF_LIFE_BUSY_SECONDS)
        self._worked = self._worked * decay + cost
        self._busy = self._busy * decay + seconds

    @property
    def capacity(self) -> float:
        """Cost per second that all slots together sustain; 0 while nothing is known."""
        return self.slots * self._worked / self._busy if self._busy else 0.0

    def saturation(self) -> float:
        """Offered over sustainable work: 1 is full, more is too much. The bounds alone while capacity is unknown."""
        self._forget()
        offered = sum(cost for _, cost in self._offered) / WINDOW_SECONDS
        rate = offered / self.capacity if self.capacity else 0.0
        return max((rate, *(use() for use in self._bounds)))

    def seconds_for(self, cost: float) -> float:
        """Return how long this replica needs for `cost`; 0 while capacity is unknown."""
        return cost / self.capacity if self.capacity else 0.0

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._offered and self._offered[0][0] < oldest:
            self._offered.popleft()
