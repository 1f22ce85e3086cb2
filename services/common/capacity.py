"""Capacity: the highest rate of work that still meets the latency objective, learnt from calls that end.

Busy time alone overstates it: decoding, tokenising and the event loop want their share of the CPU too, and a half-empty
engine runs otherwise than a full one. So it is bracketed instead:

- where calls come too late although there is a queue, it is no more than what gets done;
- where they come in time, it is at least what got done in the last 10 s;
- what neither has told for long fades, and the guess from busy time takes its place: with slots * cost / busy seconds.
"""

import math
from collections import deque
from dataclasses import dataclass

HALF_LIFE_BUSY_SECONDS = 30.0
HALF_LIFE_LATE_SECONDS = 10.0
HALF_LIFE_IN_TIME_SECONDS = 600.0
GUESS_SECONDS = 0.5
"""The guess weighs as much as this many seconds of what was seen."""
LATE_SHARE = 0.05
"""More calls than this share may not be late."""
STEADY_SECONDS = 10
"""What is done in time for so long is sustained; less than saturation looks back on, so that it is known in time."""
SEEN_SECONDS = 5.0
"""A stretch in time weighs at least as much as this many seconds of lateness."""


@dataclass(frozen=True, slots=True)
class Objective:
    """How long a call may take from its arrival to its end: so long, and so much for each unit of its cost."""

    seconds: float = math.inf
    seconds_per_unit: float = 0.0

    def seconds_for(self, cost: float) -> float:
        """Return the time that a call of this cost may take."""
        return self.seconds + self.seconds_per_unit * cost


@dataclass(slots=True)
class _Second:
    number: int
    done: float = 0.0
    squares: float = 0.0
    calls: int = 0
    late: int = 0
    had_room: bool = False

    @property
    def is_late(self) -> bool:
        return self.late > LATE_SHARE * self.calls


class Capacity:
    """What one replica sustains, in cost per second."""

    def __init__(self, slots: int, window: float) -> None:
        """`window` is how many seconds it remembers; late calls that are further apart are not of one overload."""
        self._slots, self._window = slots, int(window)
        self._worked = self._busy = 0.0
        self._done = self._time = 0.0  # seen; older seconds weigh less
        self._seconds: deque[_Second] = deque()  # of the window, with calls that ended, oldest first
        self._begun: int | None = None
        self._looked = 0
        self._late_since: int | None = None
        self._between: tuple[float, float] | None = None  # done and taken since the late second before
        self._last_late = 0
        self._lowest: float | None = None  # mean of what was done, since calls are late now and then

    def worked(self, cost: float, seconds: float) -> None:
        """Count what a slot has done in `seconds`."""
        decay = 0.5 ** (seconds / HALF_LIFE_BUSY_SECONDS)
        self._worked = self._worked * decay + cost
        self._busy = self._busy * decay + seconds

    def ended(self, now: float, cost: float, *, late: bool, crowded: bool) -> None:
        """Count a call: what it cost (0 where it was not completed), and whether it came late in a queue.

        Where one of a second left a slot empty (not `crowded`), an overload ends: until the next, nothing is shown.
        """
        self._look(now)
        if not self._seconds or self._seconds[-1].number != int(now):
            self._seconds.append(_Second(int(now)))
        second = self._seconds[-1]
        second.done += cost
        second.squares += cost * cost
        second.calls += 1
        second.late += late
        second.had_room |= not crowded

    def rate(self, now: float) -> float:
        """Return the cost per second; 0 while nothing is known."""
        self._look(now)
        return self._rate

    @property
    def _guess(self) -> float:
        return self._slots * self._worked / self._busy if self._busy else 0.0

    def _look(self, now: float) -> None:
        """Learn from the seconds that are over since this was called last."""
        number = int(now)
        if self._begun is None:
            self._begun = self._looked = number
        if number == self._looked:
            return
        passed, self._looked = number - self._looked, number
        if self._seconds and self._seconds[-1].number >= number - passed:
            self._learn(self._seconds[-1])
        if number - self._last_late > self._window:
            self._late_since = self._between = None  # nothing has ended for long: there was nothing to do
            if self._lowest is not None:
                self._set(self._lowest)
        if self._late_since is None:
            self._fade(0.5 ** (passed / HALF_LIFE_IN_TIME_SECONDS))
        while self._seconds and self._seconds[0].number < number - self._window:
            self._seconds.popleft()
        self._raise(number)

    def _learn(self, second: _Second) -> None:
        """Take a second that is over.

        Of several late ones in a row the first and the last do not count: in part of them there was less to do.
        """
        if second.is_late:
            self._last_late = second.number
        if not second.is_late or second.had_room:
            self._late_since = self._between = None
        elif self._late_since is None:
            self._late_since = second.number
        elif second.done:
            if self._between is not None:
                self._lower(*self._between)
            done = sum(one.done for one in self._seconds if one.number > self._late_since)
            self._between = done, second.number - self._late_since
            self._late_since = second.number

    def _lower(self, done: float, took: float) -> None:
        """Take what was done while calls were late: there was too much to do.

        The mean counts, where it is less than what was known: single seconds scatter, and what is more was done at the
        price of being late. A stop of some seconds is forgotten slowly, though.
        """
        lowest = self._rate or math.inf
        self._fade(0.5 ** (took / HALF_LIFE_LATE_SECONDS))
        self._done += done
        self._time += took
        kept = 0.5 ** (took / HALF_LIFE_IN_TIME_SECONDS)
        self._lowest = min(kept * lowest + (1 - kept) * self._mean, self._mean)

    def _raise(self, number: int) -> None:
        """Hold it to be at least what was done in time in the last seconds, less the standard error of so few calls.

        The best of many stretches is better than the usual one. The error is that of a compound Poisson process.
        """
        recent = [second for second in self._seconds if second.number >= number - STEADY_SECONDS]
        done, squares, calls, late = (
            sum(getattr(one, what) for one in recent) for what in ("done", "squares", "calls", "late")
        )
        if number - STEADY_SECONDS < (self._begun or 0) or late > LATE_SHARE * calls:
            return
        shown = (done - math.sqrt(squares)) / STEADY_SECONDS
        if shown > self._rate:
            self._time = max(self._time, SEEN_SECONDS)
            self._set(shown)

    @property
    def _rate(self) -> float:
        return self._mean if self._lowest is None else self._lowest

    @property
    def _mean(self) -> float:
        guess = self._guess
        weight = GUESS_SECONDS if guess else 0.0
        return (self._done + weight * guess) / (self._time + weight) if self._time + weight else 0.0

    def _set(self, rate: float) -> None:
        """Let the mean be `rate`, weighing what it weighs."""
        self._done = rate * self._time + GUESS_SECONDS * (rate - (self._guess or rate))
        self._lowest = None

    def _fade(self, share: float) -> None:
        self._done *= share
        self._time *= share
