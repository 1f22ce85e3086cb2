"""Places for live streams: a stream has its places from its configuration to its end, or is refused at once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.common.errors import Kind, ServiceError

RETRY_MIN_SECONDS, RETRY_MAX_SECONDS = 1.0, 60.0
_NEWEST_WEIGHT = 0.2
_FIRST_GUESS = 10.0  # seconds


class Slots:
    """A fixed number of places."""

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.places, self.taken = places, 0
        self._clock = clock
        self._usual_seconds = _FIRST_GUESS

    @property
    def use(self) -> float:
        """The share of the places that is taken."""
        return self.taken / self.places

    @contextmanager
    def hold(self, wanted: int, refused: Callable[[str], None]) -> Iterator[None]:
        """Hold places while the block runs.

        `refused(reason)` hears of a refusal. Raises OVERLOADED with the time after which a place is likely to be free:
        the usual length of a stream, divided by how many end in that time.
        """
        if self.taken + wanted > self.places:
            refused("streams_full")
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
