"""Turns, memory, threads, and what the load learns of them."""

import asyncio
import threading

import pytest

from services.common.load import Load
from services.vision.meter import Meter, Unmetered
from services.vision.pipeline import as_finished
from services.vision.pool import PixelPool
from services.vision.turnstile import Turn, Turnstile
from tests.waiting import turns, until


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Queue:
    """A turnstile whose passers are noted."""

    def __init__(self, capacity):
        self.stile, self.passed, self.tasks = Turnstile(capacity), [], {}

    def come(self, name, amount=1, turn=Turn(0, 0.0)):  # noqa: B008
        self.tasks[name] = asyncio.create_task(self._pass(name, amount, turn))

    async def _pass(self, name, amount, turn):
        async with self.stile.through(amount, turn):
            self.passed.append(name)
            await asyncio.Event().wait()

    async def go(self, name):
        self.tasks[name].cancel()
        await turns()


async def test_what_fits_passes_and_the_rest_waits():
    queue = Queue(2)
    for name in "abc":
        queue.come(name)
    await turns()
    assert queue.passed == ["a", "b"]
    await queue.go("a")
    assert queue.passed == ["a", "b", "c"]


async def test_pictures_of_calls_take_turns():
    queue = Queue(1)
    for position in range(3):
        queue.come(f"large {position}", turn=Turn(0, float(position)))
    await turns()
    queue.come("small", turn=Turn(0, queue.stile.position))
    queue.come("urgent", turn=Turn(-1, 99.0))
    for name in ("large 0", "urgent", "small", "large 1"):
        await turns()
        await queue.go(name)
    assert queue.passed == ["large 0", "urgent", "small", "large 1", "large 2"]


async def test_the_next_in_turn_holds_up_those_behind_and_more_than_all_is_all():
    queue = Queue(10)
    queue.come("a", 6)
    queue.come("huge", 99, Turn(0, 1.0))
    queue.come("tiny", 1, Turn(0, 2.0))
    await turns()
    assert queue.passed == ["a"]
    await queue.go("a")
    assert queue.passed == ["a", "huge"]
    await queue.go("huge")
    assert queue.passed == ["a", "huge", "tiny"]


async def test_one_that_gives_up_makes_way():
    queue = Queue(10)
    queue.come("a", 6)
    queue.come("huge", 10, Turn(0, 1.0))
    queue.come("tiny", 1, Turn(0, 2.0))
    await turns()
    await queue.go("huge")
    assert queue.passed == ["a", "tiny"]


async def test_one_that_gives_up_in_the_instant_it_passes_gives_back():
    queue = Queue(1)
    queue.come("a")
    queue.come("b")
    queue.come("c")
    await turns()
    queue.tasks["a"].cancel()
    await asyncio.sleep(0)
    queue.tasks["b"].cancel()
    await turns()
    assert queue.passed[-1] == "c"
    await queue.go("c")
    queue.come("d")
    await turns()
    assert queue.passed[-1] == "d"


def pool(threads=2):
    return PixelPool(threads, 100, Meter(Load(threads)))


async def test_work_runs_in_threads_at_most_so_many_at_a_time():
    shared, running, most, lock = pool(2), 0, 0, threading.Lock()
    gate = threading.Barrier(2, timeout=60)

    def work():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()
        with lock:
            running -= 1
        return threading.current_thread().name

    names = await asyncio.gather(*(shared.run(work, Turn(0, 0.0)) for _ in range(6)))
    assert most == 2
    assert all(name.startswith("pixels") for name in names)


async def test_what_is_given_up_before_its_turn_never_runs():
    shared, gate, ran = pool(1), threading.Event(), []
    first = asyncio.create_task(shared.run(gate.wait, Turn(0, 0.0)))
    second = asyncio.create_task(shared.run(lambda: ran.append(1), Turn(0, 1.0)))
    await turns()
    second.cancel()
    first.cancel()
    await asyncio.wait({first, second})
    third = asyncio.create_task(shared.run(lambda: "third", Turn(0, 2.0)))
    await turns()
    assert not third.done(), "the thread of a caller that has gone is still busy"
    gate.set()
    assert await third == "third"
    assert not ran


async def test_a_fault_in_a_thread_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        await pool().run(lambda: 1 / 0, Turn(0, 0.0))


def test_busy_slots_are_counted_once():
    clock = Clock()
    load = Load(2, clock)
    meter = Meter(load, clock)
    steps = [meter.working() for _ in range(4)]
    for step in steps:
        step.__enter__()
    clock.now = 10.0
    for step in steps:
        step.__exit__(None, None, None)
    meter.finished(40.0)
    assert load.capacity == pytest.approx(2 * 40 / 20), "four steps on two slots for 10 s are 20 busy slot-seconds"
    clock.now = 100.0
    meter.finished(0.0)
    assert load.capacity == pytest.approx(4.0), "idle time does not count"


def test_after_the_warm_up_a_unit_of_cost_is_a_slot_second():
    clock = Clock()
    load = Load(4, clock)
    meter = Meter(load, clock)
    with meter.working():
        clock.now = 3.0
    meter.begin()
    assert load.capacity == pytest.approx(4.0)


def test_a_batcher_tells_nothing():
    load = Unmetered(2)
    load.worked(5.0, 1.0)
    assert load.capacity == 0


async def test_results_come_as_they_are_done_and_no_more_run_than_the_window():
    gates = [asyncio.Event() for _ in range(4)]
    started = []

    def job(number):
        async def work():
            started.append(number)
            await gates[number].wait()
            return number

        return work

    results = as_finished([job(number) for number in range(4)], 2)
    gates[1].set()
    assert await anext(results) == 1
    assert started == [0, 1]
    gates[2].set()
    assert await anext(results) == 2
    gates[0].set()
    gates[3].set()
    assert {number async for number in results} == {0, 3}


async def test_a_failure_ends_the_others():
    cancelled = []

    async def waits():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def fails():
        await asyncio.sleep(0)
        raise ValueError

    with pytest.raises(ValueError):
        [_ async for _ in as_finished([waits, fails, waits], 2)]
    assert cancelled == [1]


async def test_leaving_early_ends_all():
    ended = []

    def job(number):
        async def work():
            try:
                if number:
                    await asyncio.Event().wait()
            finally:
                ended.append(number)

        return work

    results = as_finished([job(number) for number in range(100)], 3)
    await anext(results)
    await results.aclose()
    await until(lambda: sorted(ended) == [0, 1, 2])


async def test_no_jobs_no_results():
    assert [_ async for _ in as_finished([], 3)] == []
