import asyncio
from contextlib import AsyncExitStack
from typing import ClassVar

import pytest

from services.common.admission import Admission, Limits
from services.common.errors import Kind, ServiceError
from services.common.load import Load
from tests.waiting import turns


@pytest.fixture
def load():
    return Load(1, clock=lambda: 100.0)


@pytest.fixture
def make(load, telemetry):
    return lambda concurrency=1, queue=10, seconds=60.0: Admission(Limits(concurrency, queue, seconds), load, telemetry)


class Call:
    """A call that holds its place until `finish`."""

    entered: ClassVar[list[str]] = []

    def __init__(self, admission, name="", **options):
        self.name, self.running, self._finish = name, False, asyncio.Event()
        self.task = asyncio.ensure_future(self._run(admission, options))

    async def _run(self, admission, options):
        async with admission.admit(1.0, **options):
            self.running = True
            Call.entered.append(self.name)
            await self._finish.wait()

    async def finish(self):
        self._finish.set()
        await self.task


@pytest.fixture(autouse=True)
def _no_entries():
    Call.entered = []


async def refusal(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value


async def test_only_so_many_run_and_the_rest_wait(make):
    admission = make(concurrency=2)
    calls = [Call(admission) for _ in range(5)]
    await turns()
    assert (admission.running, admission.waiting) == (2, 3)
    for call in calls:
        await call.finish()
        await turns()
        assert admission.running <= 2
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_call_turned_away_before_its_cost_is_known_counts_as_those_that_are_here(make, load, telemetry):
    load.worked(1, 2.0)  # two seconds a call
    admission = make()
    calls = [Call(admission) for _ in range(2)]
    await turns()
    offered = load.offered_rate
    error = admission.turn_away("queue_full")
    assert (error.kind, error.code, error.retry_after) == (Kind.OVERLOADED, "queue_full", 4.0)
    assert load.offered_rate == pytest.approx(1.5 * offered)
    assert telemetry.value("flotilla_admission_rejected_total", reason="queue_full") == 1
    for call in calls:
        await call.finish()
    before = load.offered_rate
    admission.turn_away("queue_full")  # nobody is here now
    assert load.offered_rate == pytest.approx(before + 0.5 * offered)


async def test_a_full_queue_refuses_at_once_with_a_time(make, load, telemetry):
    load.worked(1, 2.0)  # two seconds a call
    admission = make(queue=1)
    calls = [Call(admission) for _ in range(2)]
    await turns()
    error = await refusal(Call(admission).task)
    assert (error.kind, error.code, error.retry_after) == (Kind.OVERLOADED, "queue_full", 4.0)
    assert telemetry.value("flotilla_admission_rejected_total", reason="queue_full") == 1
    for call in calls:
        await call.finish()


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 0.1), (1e6, 60.0)])
async def test_the_time_to_come_back_is_bounded(make, load, seconds, expected):
    if seconds:
        load.worked(1, seconds)
    admission = make(queue=0)
    call = Call(admission)
    await turns()
    assert (await refusal(Call(admission).task)).retry_after == expected
    await call.finish()


async def test_priority_goes_first_then_order(make):
    admission = make()
    calls = [Call(admission, "first")]
    await turns()
    calls += [Call(admission, name, priority=p) for name, p in [("low", 5), ("a", 0), ("b", 0), ("high", -3)]]
    await turns()
    for call in sorted(calls, key=lambda call: ["first", "high", "a", "b", "low"].index(call.name)):
        await call.finish()
        await turns()
    assert Call.entered == ["first", "high", "a", "b", "low"]


async def test_a_call_that_cannot_be_served_in_time_is_refused_at_once(make, load):
    load.worked(1, 10.0)
    admission = make()
    call = Call(admission)
    await turns()
    error = await refusal(Call(admission, remaining=5.0).task)
    assert (error.kind, error.code) == (Kind.OVERLOADED, "deadline")
    await call.finish()


@pytest.mark.parametrize("remaining", [0.0, -1.0])
@pytest.mark.parametrize("busy", [True, False])
async def test_expired_work_never_runs(make, telemetry, remaining, busy):
    admission = make()
    calls = [Call(admission)] if busy else []
    await turns()
    error = await refusal(Call(admission, "late", remaining=remaining).task)
    assert error.kind is Kind.DEADLINE_EXCEEDED
    assert "late" not in Call.entered
    assert telemetry.value("flotilla_admission_rejected_total", reason="expired") == 1
    for call in calls:
        await call.finish()


@pytest.mark.parametrize("options", [{"seconds": 0.01}, {"remaining": 0.01}])
async def test_a_wait_ends_at_the_limit_or_the_deadline(make, options):
    admission = make(seconds=options.get("seconds", 60.0))
    call = Call(admission)
    await turns()
    error = await refusal(Call(admission, remaining=options.get("remaining")).task)
    assert (error.kind, error.code) == (Kind.OVERLOADED, "queue_timeout")
    assert admission.waiting == 0
    await call.finish()
    assert admission.running == 0


async def test_a_cancelled_waiter_leaves_the_queue(make):
    admission = make()
    call, waiter = Call(admission), None
    await turns()
    waiter = Call(admission, "gone")
    await turns()
    waiter.task.cancel()
    await turns()
    assert admission.waiting == 0
    await call.finish()
    assert (admission.running, Call.entered) == (0, [""])


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_place_given_in_the_instant_of_cancelling_goes_to_the_next(make, cancel_first):
    admission = make()
    async with AsyncExitStack() as held:
        await held.enter_async_context(admission.admit(1.0))
        gone, next_one = Call(admission, "gone"), Call(admission, "next")
        await turns()
        if cancel_first:
            gone.task.cancel()
        await held.aclose()
        if not cancel_first:
            gone.task.cancel()
    await turns()
    assert Call.entered == ["next"]
    await next_one.finish()
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_failing_call_frees_its_place(make):
    admission = make()
    with pytest.raises(ZeroDivisionError):
        async with admission.admit(1.0):
            raise ZeroDivisionError
    assert admission.running == 0


async def test_principals_take_turns(make):
    admission = make(queue=10)
    first = Call(admission)
    await turns()
    flood = [Call(admission, f"a{i}", principal="a") for i in range(3)]
    await turns()
    others = [Call(admission, name, principal=name) for name in ("b", "c")]
    await turns()
    for call in (first, *flood, *others):
        call._finish.set()
    await asyncio.gather(*(call.task for call in (first, *flood, *others)))
    assert Call.entered == ["", "a0", "b", "c", "a1", "a2"]


async def test_a_flood_that_fills_the_queue_makes_room_for_another_principal(make):
    admission = make(queue=2)
    first = Call(admission)
    await turns()
    flood = [Call(admission, f"a{i}", principal="a") for i in range(2)]
    await turns()
    other = Call(admission, "b", principal="b")
    await turns()
    assert (await refusal(flood[1].task)).code == "queue_full"
    for call in (first, flood[0], other):
        call._finish.set()
    await asyncio.gather(first.task, flood[0].task, other.task)
    assert Call.entered == ["", "a0", "b"]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_full_queue_makes_room_for_a_higher_priority_only(make):
    admission = make(queue=1)
    first = Call(admission)
    await turns()
    waiting = Call(admission, "ordinary")
    await turns()
    assert (await refusal(Call(admission, "late").task)).code == "queue_full"
    urgent = Call(admission, "urgent", priority=-1)
    await turns()
    assert (await refusal(waiting.task)).code == "queue_full"
    for call in (first, urgent):
        call._finish.set()
    await asyncio.gather(first.task, urgent.task)
    assert Call.entered == ["", "urgent"]


async def test_what_a_call_really_costs_counts_once_it_is_known(make, load):
    async with make().admit(10.0) as place:
        place.costs(15.0)
        place.costs(4.0)
    assert load.offered_rate * 15 == pytest.approx(4.0)


async def test_a_call_that_was_completed_counts_for_capacity_and_one_that_failed_does_not(make, load, monkeypatch):
    ended = []
    monkeypatch.setattr(load, "ended", lambda cost, seconds, **how: ended.append((cost, how)) or True)
    admission = make(concurrency=3)
    others = [Call(admission), Call(admission)]
    await turns()
    async with admission.admit(2.0):
        pass
    with pytest.raises(ValueError, match="bad"):
        async with admission.admit(3.0):
            raise ValueError("bad")
    for call in others:
        await call.finish()
    assert ended == [
        (2.0, {"completed": True, "crowded": True}),
        (3.0, {"completed": False, "crowded": True}),
        (1.0, {"completed": True, "crowded": True}),
        (1.0, {"completed": True, "crowded": False}),
    ]
