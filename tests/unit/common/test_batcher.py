import asyncio
import gc
import weakref
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.batcher import Batcher, BatchInstruments, BatchLimits
from services.common.errors import Kind, ServiceError
from services.common.load import Load
from tests.waiting import turns

LIMITS = BatchLimits(16, 4096, 1)


class _Nothing:
    def record(self, *_): ...
    def add(self, *_): ...


class _NoTelemetry:
    def histogram(self, *_):
        return _Nothing()

    counter = histogram
    tracer = None


class Engine:
    """Records batches; holds them back until released when `gated`."""

    def __init__(self, limits=LIMITS, gated=False):
        self.batches, self.gate, self.cancelled = [], asyncio.Event(), 0
        if not gated:
            self.gate.set()
        self.batcher = Batcher(self.run, limits, Load(limits.slots), BatchInstruments(_NoTelemetry()), "m")

    async def run(self, items):
        self.batches.append(items)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if "bad" in items:
            raise ServiceError(Kind.INTERNAL, "bad")
        return [("done", item) for item in items]

    def call(self, items, lengths=None, priority=0, waiting=0):
        return asyncio.ensure_future(self.batcher.submit(items, lengths or [10] * len(items), priority, waiting))


lengths = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=40), min_size=1, max_size=6)


@given(lengths, st.integers(1, 16), st.integers(1, 4096), st.integers(1, 3))
def test_every_item_once_in_order_within_rule_and_limits(calls, items, padded, slots):
    async def main():
        engine = Engine(BatchLimits(items, padded, slots))
        wanted = [[(number, index, length) for index, length in enumerate(call)] for number, call in enumerate(calls)]
        results = await asyncio.gather(*(engine.call(w, [i[2] for i in w]) for w in wanted))
        assert results == [[("done", item) for item in call] for call in wanted]
        assert sorted(item for batch in engine.batches for item in batch) == sorted(chain(*wanted))
        for batch in engine.batches:
            sizes = [item[2] for item in batch]
            assert max(sizes) <= max(min(sizes) + 4, 1.15 * min(sizes))
            assert len(batch) == 1 or (len(batch) <= items and len(batch) * max(sizes) <= padded)

    asyncio.run(main())


async def test_no_items_no_work():
    assert await Engine().batcher.submit([], []) == []


async def test_calls_of_one_turn_share_a_batch_and_no_more_run_than_slots():
    engine = Engine(gated=True)
    calls = [engine.call([i]) for i in range(40)]
    await turns()
    assert [len(batch) for batch in engine.batches] == [16]
    engine.gate.set()
    await asyncio.gather(*calls)
    assert [len(batch) for batch in engine.batches] == [16, 16, 8]


async def test_a_single_item_does_not_wait_for_a_large_call():
    engine = Engine(gated=True)
    large = engine.call(list(range(2048)))
    await turns()
    single = engine.call(["single"], [100])  # too long to share a batch with the large call
    await turns()
    engine.gate.set()
    await single
    assert len(engine.batches) <= 18
    assert not large.done()
    await large


async def test_priority_goes_first():
    engine = Engine(BatchLimits(1, 4096, 1), gated=True)
    first = engine.call(["first"])
    await turns()
    calls = [engine.call(["low"], priority=1), engine.call(["high"], priority=-1)]
    engine.gate.set()
    await asyncio.gather(first, *calls)
    assert engine.batches == [["first"], ["high"], ["low"]]


async def test_cancelling_drops_what_has_not_run():
    engine = Engine(gated=True)
    keep, drop = engine.call(["keep"]), None
    await turns()
    drop = engine.call(list(range(100)))
    await turns()
    drop.cancel()
    await turns()
    engine.gate.set()
    await keep
    await turns()
    assert engine.batches == [["keep"]]


async def test_a_running_batch_nobody_waits_for_is_cancelled_and_its_slot_used_again():
    engine = Engine(gated=True)
    calls = [engine.call(["a"]), engine.call(["b"])]
    await turns()
    calls[0].cancel()
    await turns()
    assert engine.cancelled == 0
    calls[1].cancel()
    await turns()
    assert engine.cancelled == 1
    engine.gate.set()
    assert await engine.call(["c"]) == [("done", "c")]


async def test_a_batch_cancelled_before_its_first_step_gives_its_slot_back():
    engine = Engine()
    loop, call = asyncio.get_running_loop(), engine.call(["a"])
    await asyncio.sleep(0)  # submitted; the dispatch runs next, then this cancel, then the batch would begin
    loop.call_soon(call.cancel)
    await asyncio.wait({call})
    await turns()
    async with asyncio.timeout(10):
        assert await engine.call(["b"]) == [("done", "b")]


async def test_a_failing_batch_fails_only_its_calls():
    engine = Engine(BatchLimits(1, 4096, 1))
    results = await asyncio.gather(engine.call(["x", "bad", "y"]), engine.call(["good"]), return_exceptions=True)
    assert isinstance(results[0], ServiceError)
    assert results[1] == [("done", "good")]
    assert await engine.call(["after"]) == [("done", "after")]


@pytest.mark.parametrize("returned", [[], [1, 2, 3]])
async def test_a_model_that_returns_the_wrong_number_fails_the_call(returned):
    async def run(_):
        return returned

    batcher = Batcher(run, BatchLimits(16, 4096, 1), Load(1), BatchInstruments(_NoTelemetry()), "m")
    with pytest.raises(ServiceError):
        await batcher.submit(["a", "b"], [1, 1])


async def test_an_engine_that_is_closed_fails_its_calls():
    async def run(_):
        raise asyncio.CancelledError  # what grpc raises when the channel is closed under a call

    batcher = Batcher(run, BatchLimits(16, 4096, 1), Load(1), BatchInstruments(_NoTelemetry()), "m")
    with pytest.raises(ServiceError) as caught:
        await batcher.submit(["a"], [1])
    assert caught.value.kind is Kind.UNAVAILABLE


class _Large:
    """Stands for a large item: it can be watched."""


async def test_items_are_let_go_without_a_garbage_collection():
    watched = []

    async def run(items):
        return ["done" for _ in items]

    async def submit(batcher):
        item = _Large()
        watched.append(weakref.ref(item))
        await batcher.submit([item], [10])

    gc.disable()
    try:
        await submit(Batcher(run, LIMITS, Load(1), BatchInstruments(_NoTelemetry()), "m"))
        await turns()
        assert watched[0]() is None
    finally:
        gc.enable()


async def test_items_submitted_one_by_one_take_turns_with_those_of_others():
    engine = Engine(BatchLimits(1, 4096, 1), gated=True)
    running = engine.call(["running"])
    await turns()
    many = [engine.call([f"many {number}"], waiting=number) for number in range(4)]
    one = engine.call(["one"])
    await turns()
    engine.gate.set()
    await asyncio.gather(running, one, *many)
    order = [item for batch in engine.batches for item in batch]
    assert order == ["running", "many 0", "one", "many 1", "many 2", "many 3"]
