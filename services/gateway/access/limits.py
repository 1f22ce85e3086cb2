"""Limits: how much of something is left, in buckets that renew. Knows neither keys nor requests.

`LimitStore` is all that the gateway asks of a store, so that one shared by several gateways can take the place of the
one in memory. Amounts may go below what is left when work turns out larger than was known: that debt is paid first.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

MINUTE, DAY = 60.0, 86_400.0


Renewal = Literal["minute", "day", "return"]
"""When what was taken is there again: all the time, the whole of it in a minute; at midnight UTC; when given back."""


@dataclass(frozen=True, slots=True, eq=False)  # told apart by identity, which is quick
class Limit:
    """At most `amount` of `unit`."""

    unit: str
    amount: float
    renewal: Renewal


@dataclass(frozen=True, slots=True)
class Level:
    """How a limit stands."""

    limit: Limit
    remaining: float
    reset: float
    """Seconds until all of it is there again; 0 where that is not a matter of time."""


@dataclass(frozen=True, slots=True)
class Short:
    """A limit has not enough left."""

    limit: Limit
    wait: float | None
    """Seconds until it has; None where that is not a matter of time."""


class LimitStore(Protocol):
    """Keeps what each account has used. An amount is in the limit's unit."""

    async def take(self, account: str, amounts: Mapping[Limit, float]) -> Short | None:
        """Take every amount, or none of them and return the limit to wait longest for.

        At least one must be left of each limit, and all of it is enough for an amount above it.
        """

    async def settle(self, account: str, amounts: Mapping[Limit, float]) -> None:
        """Take these amounts whatever is left; negative ones are given back."""

    async def levels(self, account: str, limits: Iterable[Limit]) -> list[Level]:
        """Return how the limits stand."""


@dataclass(slots=True)
class _Bucket:
    """What was taken and is not there again, as of a time: of the monotonic clock, or the number of a day."""

    used: float
    since: float


class MemoryLimits:
    """A LimitStore in the memory of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._buckets: dict[tuple[str, str, Renewal], _Bucket] = {}

    async def take(self, account: str, amounts: Mapping[Limit, float]) -> Short | None:
        """Take every amount, or none."""
        short: Short | None = None
        taken = []
        for limit, amount in amounts.items():
            bucket = self._bucket(account, limit)
            taken.append((bucket, amount))
            needed = min(max(amount, 1.0), limit.amount)
            missing = needed - (limit.amount - bucket.used)
            if missing > 1e-9:  # less is rounding
                wait = self._wait(limit, missing)
                if short is None or (wait or 0.0) > (short.wait or 0.0):
                    short = Short(limit, wait)
        if short is None:
            for bucket, amount in taken:
                bucket.used += amount
        return short

    async def settle(self, account: str, amounts: Mapping[Limit, float]) -> None:
        """Take these amounts whatever is left."""
        for limit, amount in amounts.items():
            bucket = self._bucket(account, limit)
            bucket.used = max(0.0, bucket.used + amount)

    async def levels(self, account: str, limits: Iterable[Limit]) -> list[Level]:
        """Return how the limits stand."""
        levels = []
        for limit in limits:
            used = self._bucket(account, limit).used
            reset = self._wait(limit, used) if used > 0 else 0.0
            levels.append(Level(limit, max(0.0, limit.amount - used), reset or 0.0))
        return levels

    def _bucket(self, account: str, limit: Limit) -> _Bucket:
        """Return the bucket as it is now."""
        now = self._wall() // DAY if limit.renewal == "day" else self._clock()
        name = account, limit.unit, limit.renewal
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(0.0, now)
        elif bucket.used and limit.renewal != "return":
            per = 1.0 if limit.renewal == "day" else MINUTE
            bucket.used = max(0.0, bucket.used - max(0.0, now - bucket.since) * limit.amount / per)
        bucket.since = now
        return bucket

    def _wait(self, limit: Limit, amount: float) -> float | None:
        """Return the seconds until `amount` more is there."""
        if limit.renewal == "minute":
            return amount * MINUTE / limit.amount
        return DAY - self._wall() % DAY if limit.renewal == "day" else None
