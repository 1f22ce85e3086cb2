"""The meter: learns how much work this replica sustains over a mix of tasks, and tells the load.

Cost is counted in slot-seconds, a slot being one CPU thread (or engine instance). What a picture costs is estimated
from its header with weights that the warm-up measured:

    cost = decode_weight * pixels of the file + sum over its graphs(weight of the graph * pixels of its input)

Decoding and the graphs share the slots, so seconds of single steps cannot be added up: two steps on one CPU take twice
as long each. The meter adds up busy slots instead, min(steps running, slots) over time, and tells the load of it with
the cost of each picture that is done. So capacity is cost done for each busy slot-second, whatever the mix, and errors
of the estimate cancel out, because work is offered and done in the same unit.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.common.load import Load


class Meter:
    """Counts busy slots and finished cost."""

    def __init__(self, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        self._load, self._clock = load, clock
        self._running = 0
        self._busy = 0.0
        self._since = clock()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the block as one running step."""
        self._tick()
        self._running += 1
        try:
            yield
        finally:
            self._tick()
            self._running -= 1

    def begin(self) -> None:
        """End the warm-up, whose work is the measure: so far a slot-second of cost has taken a busy slot-second."""
        self._tick()
        self.finished(self._busy)

    def finished(self, cost: float) -> None:
        """Say that work of this cost is done."""
        self._tick()
        self._load.worked(cost, self._busy)
        self._busy = 0.0

    def _tick(self) -> None:
        now = self._clock()
        self._busy += min(self._running, self._load.slots) * (now - self._since)
        self._since = now


class Unmetered(Load):
    """What a batcher tells of its batches is not counted: the meter counts."""

    def worked(self, cost: float, seconds: float) -> None:
        """Do nothing."""
