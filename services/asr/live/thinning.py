"""Which interim readings are made: where the machine cannot keep up, they thin out so that final ones are in time.

An interim never waits for another one. All that are under way may keep the engine busy for a moment only, because a
final result that comes in has to wait for them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.common.load import Load

MOST_BUSY_SECONDS = 0.4
"""Engine time that all interims under way may take."""
LEAST_INTERVAL_SECONDS = 0.5
_SHARE = 2.5


class Thinning:
    """What all streams of a model share."""

    def __init__(self, load: Load) -> None:
        """`load` counts frames of 10 ms."""
        self._load = load
        self._frames = 0

    def allows(self, frames: int) -> bool:
        """Whether an interim reading of that many frames may be made now; one alone always may."""
        return not self._frames or self._load.seconds_for(self._frames + frames) <= MOST_BUSY_SECONDS

    @contextmanager
    def reading(self, frames: int) -> Iterator[None]:
        """Count an interim reading as under way while the block runs."""
        self._frames += frames
        try:
            yield
        finally:
            self._frames -= frames


class Pace:
    """When one channel may have its next interim: later, the longer its readings take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether the time has come."""
        return self._clock() >= self._due

    def skip(self) -> None:
        """Try again in a moment."""
        self._due = self._clock() + LEAST_INTERVAL_SECONDS / 2

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the next one come so late that readings take two fifths of the time at most."""
        began = self._clock()
        try:
            yield
        finally:
            took = self._clock() - began
            self._due = began + max(LEAST_INTERVAL_SECONDS, _SHARE * took)
