"""Buckets: exact, all or none, truthful about when to come back."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.access.limits import DAY, Limit, MemoryLimits

REQUESTS = Limit("requests", 60, "minute")
TOKENS = Limit("tokens", 1000, "minute")
DAILY = Limit("images", 10, "day")
SLOTS = Limit("concurrency", 2, "return")


class Clock:
    """A time that tests set, for both clocks."""

    def __init__(self) -> None:
        self.now = 10 * DAY

    def __call__(self) -> float:
        return self.now


def store() -> tuple[MemoryLimits, Clock]:
    clock = Clock()
    return MemoryLimits(clock, clock), clock


async def test_a_minute_renews_all_the_time_and_the_wait_is_true() -> None:
    limits, clock = store()
    for _ in range(60):
        assert await limits.take("a", {REQUESTS: 1}) is None
    short = await limits.take("a", {REQUESTS: 1})
    assert short is not None
    assert short.wait == 1
    clock.now += short.wait / 2
    assert await limits.take("a", {REQUESTS: 1}) is not None
    clock.now += short.wait / 2
    assert await limits.take("a", {REQUESTS: 1}) is None


async def test_accounts_have_their_own() -> None:
    limits, _ = store()
    assert await limits.take("a", {TOKENS: 1000}) is None
    assert await limits.take("a", {TOKENS: 1}) is not None
    assert await limits.take("b", {TOKENS: 1000}) is None


async def test_all_or_none_and_the_longest_wait() -> None:
    limits, _ = store()
    await limits.take("a", {TOKENS: 1000})
    await limits.take("a", {DAILY: 10})
    short = await limits.take("a", {REQUESTS: 1, TOKENS: 1, DAILY: 1})
    assert short is not None
    assert short.limit is DAILY
    assert (await limits.levels("a", [REQUESTS]))[0].remaining == 60


async def test_debt_is_paid_first() -> None:
    limits, clock = store()
    await limits.take("a", {TOKENS: 10})
    await limits.settle("a", {TOKENS: 1990})  # twice the limit used in all
    short = await limits.take("a", {TOKENS: 0})
    assert short is not None
    assert short.wait is not None
    assert abs(short.wait - 60.06) < 0.01
    clock.now += short.wait
    assert await limits.take("a", {TOKENS: 0}) is None


async def test_what_was_reserved_in_vain_is_given_back() -> None:
    limits, _ = store()
    await limits.take("a", {TOKENS: 900})
    await limits.settle("a", {TOKENS: -890})
    assert (await limits.levels("a", [TOKENS]))[0].remaining == 990


async def test_more_than_the_limit_goes_through_a_full_bucket_alone() -> None:
    limits, _ = store()
    assert await limits.take("a", {TOKENS: 5000}) is None
    assert await limits.take("a", {TOKENS: 1}) is not None


async def test_a_day_renews_at_midnight() -> None:
    limits, clock = store()
    clock.now += DAY - 100
    await limits.take("a", {DAILY: 10})
    short = await limits.take("a", {DAILY: 1})
    assert short is not None
    assert short.wait == 100
    clock.now += 100
    assert (await limits.levels("a", [DAILY]))[0].remaining == 10


async def test_places_are_given_back_not_renewed() -> None:
    limits, clock = store()
    await limits.take("a", {SLOTS: 1})
    await limits.take("a", {SLOTS: 1})
    clock.now += DAY
    short = await limits.take("a", {SLOTS: 1})
    assert short is not None
    assert short.wait is None
    await limits.settle("a", {SLOTS: -1})
    assert await limits.take("a", {SLOTS: 1}) is None


async def test_a_limit_that_is_raised_counts_from_now() -> None:
    limits, _ = store()
    await limits.take("a", {TOKENS: 1000})
    assert await limits.take("a", {Limit("tokens", 2000, "minute"): 500}) is None


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 200)), min_size=1, max_size=50))
def test_over_any_time_no_more_is_admitted_than_the_limit_and_what_renewed(steps: list[tuple[float, float]]) -> None:
    limits, clock = store()
    begin, admitted = clock.now, 0.0
    for pause, amount in steps:
        clock.now += pause
        if asyncio.run(limits.take("a", {TOKENS: amount})) is None:
            admitted += amount
        assert admitted <= 1000 + (clock.now - begin) * 1000 / 60 + 1e-6
