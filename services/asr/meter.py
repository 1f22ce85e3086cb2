"""The meter: learns how many frames of sound this replica sustains, with models that share its CPU.

Every batch computes on all threads, so time is busy or not, however many batches run; slots count as all busy.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.common.load import Load


class Meter(Load):
    """What the batchers tell of their batches; passes it on to the load of the service as it really was."""

    def __init__(self, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(load.slots, clock)
        self._load = load
        self._running, self._since, self._taken = 0, 0.0, 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the block as time in which the engine works."""
        self._tick()
        self._running += 1
        try:
            yield
        except BaseException:
            self._tick()
            self._taken = 0.0  # what failed tells nothing
            raise
        finally:
            self._tick()
            self._running -= 1

    def worked(self, cost: float, seconds: float) -> None:
        """Say that frames are done. In `seconds` other batches may have run too; the meter knows better."""
        self._tick()
        self._load.worked(cost, self._taken * self.slots)
        self._taken = 0.0

    def _tick(self) -> None:
        now = self._clock()
        if self._running:
            self._taken += now - self._since
        self._since = now
