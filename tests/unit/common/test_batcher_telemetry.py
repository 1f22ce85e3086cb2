"""What a batcher shows: a span of the trace of a call, links to the other calls, and work that was done for nobody."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from services.common.batcher import Batcher, BatchInstruments, BatchLimits
from services.common.load import Load
from tests.waiting import turns


class Counter:
    def __init__(self):
        self.count = 0

    def add(self, number, *_):
        self.count += number

    def record(self, *_): ...


class Counters:
    """Stands for the telemetry of a process."""

    def __init__(self):
        self.counters, self.spans = {}, InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer = provider.get_tracer("test")

    def histogram(self, name, *_):
        return self.counters.setdefault(name, Counter())

    counter = histogram


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def gate():
    return asyncio.Event()


@pytest.fixture
def inside():
    return []


@pytest.fixture
def batcher(counters, gate, inside):
    async def run(items):
        inside.append(get_current_span().get_span_context())
        await gate.wait()
        return items

    return Batcher(run, BatchLimits(8, 4096, 1), Load(1), BatchInstruments(counters), "m")


async def test_a_batch_is_in_the_trace_of_its_first_call_and_linked_with_the_others(batcher, counters, gate, inside):
    async def call(name):
        with counters.tracer.start_as_current_span(name):
            await batcher.submit([name], [10])

    gate.set()
    await asyncio.gather(call("a"), call("b"))
    spans = {span.name: span for span in counters.spans.get_finished_spans()}
    batch = spans["batch m"]
    assert (batch.context.trace_id, batch.parent.span_id) == (spans["a"].context.trace_id, spans["a"].context.span_id)
    assert [link.context.span_id for link in batch.links] == [spans["b"].context.span_id]
    assert batch.attributes["flotilla.batch.items"] == 2
    assert inside == [batch.context], "what is called from there belongs to the batch"


async def test_a_call_that_nobody_traces_makes_no_span(batcher, counters, gate):
    gate.set()
    await batcher.submit(["a"], [10])
    assert not counters.spans.get_finished_spans()


async def test_items_that_are_run_for_a_call_that_has_gone_are_counted_as_wasted(batcher, counters, gate):
    calls = [asyncio.ensure_future(batcher.submit(items, [10] * len(items))) for items in (["a", "b"], ["c"])]
    await turns()
    calls[0].cancel()
    await turns()
    gate.set()
    assert await calls[1] == ["c"]
    assert counters.counters["flotilla_batch_items_wasted"].count == 2
    assert counters.counters["flotilla_batch_items_cancelled"].count == 0


async def test_a_batch_that_is_given_up_is_wasted_too(batcher, counters):
    call = asyncio.ensure_future(batcher.submit(["a"], [10]))
    await turns()
    call.cancel()
    await turns()
    assert counters.counters["flotilla_batch_items_wasted"].count == 1
