"""Places for live streams: a stream has its places from its configuration to its end, or is refused at once."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.common.errors import Kind, ServiceError
from services.common.load import WINDOW_SECONDS

RETRY_MIN_SECONDS, RETRY_MAX_SECONDS = 1.0, 60.0
_NEWEST_WEIGHT = 0.2
_FIRST_GUESS = 10.0  # seconds


class Slots:
    """A fixed number of places."""

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.places, self.taken = places, 0
        self._clock = clock
        self._usual_seconds = _FIRST_GUESS
        self._refused: deque[tuple[float, int]] = deque()  # when, how many places were wanted

    @property
    def use(self) -> float:
        """The share of the places that is taken, or would be: more than 1 where streams were refused lately.

        Each that was would have held its places for the usual length of a stream.
        """
        while self._refused and self._refused[0][0] < self._clock() - WINDOW_SECONDS:
            self._refused.popleft()
        wanted = sum(wanted for _, wanted in self._refused) * self._usual_seconds / WINDOW_SECONDS
        return (self.taken + wanted) / self.places

    @contextmanager
    def hold(self, wanted: int, refused: Callable[[str], None]) -> Iterator[None]:
        """Hold places while the block runs.

        `refused(reason)` hears of a refusal. Raises OVERLOADED with the time after which a place is likely to be free:
        the usual length of a stream, divided by how many end in that time.
        """
        if self.taken + wanted > self.places:
            refused("streams_full")
            self._refused.append((self._clock(), wanted))
            seconds = min(max(self._usual_seconds * wanted / self.places, RETRY_MIN_SECONDS), RETRY_MAX_SECONDS)
            message = f"{self.taken} of {self.places} places for live streams are taken, {wanted} would be needed"
            raise ServiceError(Kind.OVERLOADED, message, code="streams_full", retry_after=seconds)
        self.taken += wanted
        began = self._clock()
        try:
            yield
        finally:
            self.taken -= wanted
            self._usual_seconds += _NEWEST_WEIGHT * (self._clock() - began - self._usual_seconds)
