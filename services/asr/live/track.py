"""The audio of one channel as far as it is still needed. Positions count samples from the beginning of the stream."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Track:
    """Samples come in at the end and are forgotten from the beginning."""

    def __init__(self) -> None:
        self._pieces: deque[Floats] = deque()
        self.first = self.last = 0
        """What is kept: from `first` on, up to `last`."""

    def __len__(self) -> int:
        return self.last - self.first

    def append(self, samples: Floats) -> None:
        """Add the next samples [n]."""
        if len(samples):
            self._pieces.append(samples)
            self.last += len(samples)

    def read(self, start: int, stop: int) -> Floats:
        """Return samples [n] from `start` to `stop`, as far as they are kept."""
        position, parts = self.first, []
        for piece in self._pieces:
            if position < stop and position + len(piece) > start:
                parts.append(piece[max(0, start - position) : stop - position])
            position += len(piece)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def forget(self, before: int) -> None:
        """Drop what comes before a position."""
        while self._pieces and self.first + len(self._pieces[0]) <= before:
            self.first += len(self._pieces.popleft())
        if self._pieces and before > self.first:
            self._pieces[0] = self._pieces[0][before - self.first :].copy()
            self.first = before
