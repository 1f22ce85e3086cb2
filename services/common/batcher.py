"""The batcher: gathers items of many calls into batches of similar length for the engine.

Padding is the avoidable cost of ragged input, so a batch is cut where an item is longer than max(L0 + 4, 1.15 * L0), L0
being its shortest. A batch is formed whenever an engine slot is free, around the item whose turn it is: nothing waits
for a batch to fill, and under load batches fill by themselves. Calls take turns item by item (start-time fair
queueing), so a call with 2,048 items does not make one with a single item wait for all of them.
"""

import asyncio
import contextvars
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from opentelemetry.trace import Link, Span, get_current_span
from sortedcontainers import SortedKeyList

from services.common.errors import Kind, ServiceError
from services.common.load import Load
from services.common.telemetry import COUNTS, SECONDS, Telemetry

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may get, and how many run at once."""

    items: int
    """Items in a batch."""
    padded_length: int
    """Items times the longest item's length."""
    slots: int
    """Batches that run at the same time: the instances of the engine."""


@dataclass(eq=False, slots=True)
class _Call(Generic[Result]):
    results: list[Result | None]
    missing: int
    done: "asyncio.Future[None]"
    context: contextvars.Context
    """What logs, and spans further down, belong to."""
    span: Span


@dataclass(eq=False, slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    length: int
    index: int
    order: int
    turn: tuple[int, float, int]
    submitted: float
    call: _Call[Result]
    batch: "_Batch[Item, Result] | None" = None


@dataclass(eq=False, slots=True)
class _Batch(Generic[Item, Result]):
    entries: "list[_Entry[Item, Result]]"
    live: int
    task: "asyncio.Task[None] | None" = None


class BatchInstruments:
    """The metrics of all batchers of a process, labelled with the model."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.tracer = telemetry.tracer
        self.size = telemetry.histogram("flotilla_batch_items", "Items of a batch sent to the engine.", COUNTS)
        self.seconds = telemetry.histogram("flotilla_batch_duration", "Engine time of a batch.", SECONDS, "s")
        self.queued = telemetry.histogram("flotilla_batch_queue_time", "Wait of an item for a batch.", SECONDS, "s")
        self.padding = telemetry.counter("flotilla_batch_padding", "Padding in batches, in units of length.")
        self.cancelled = telemetry.counter("flotilla_batch_items_cancelled", "Items dropped before they were run.")
        self.wasted = telemetry.counter("flotilla_batch_items_wasted", "Items run for a call that was gone by then.")


class Batcher(Generic[Item, Result]):
    """Runs items in batches by `run(items)`, which returns one result for each item, in order."""

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Iterable[Result]]],
        limits: BatchLimits,
        load: Load,
        instruments: BatchInstruments,
        model: str,
    ) -> None:
        """`model` labels the metrics."""
        self._run, self._limits, self._load = run, limits, load
        self._by_length: SortedKeyList = SortedKeyList(key=lambda entry: (entry.length, entry.order))
        self._by_turn: SortedKeyList = SortedKeyList(key=lambda entry: entry.turn)
        self._order = itertools.count()
        self._virtual_time = 0.0
        self._active = 0
        self._dispatching = False
        self._measure, self._labels = instruments, {"model": model}

    async def submit(
        self, items: Sequence[Item], lengths: Sequence[int], priority: int = 0, waiting: int = 0
    ) -> list[Result]:
        """Return the results of `items`, in order. Cancelling drops what has not run yet.

        `waiting` is how many items the caller has submitted before that still wait: these take their turn after them.
        Raises what `run` raised for any batch an item was in.
        """
        if not items:
            return []
        loop, now = asyncio.get_running_loop(), time.monotonic()
        context, span = contextvars.copy_context(), get_current_span()
        call: _Call[Result] = _Call([None] * len(items), len(items), loop.create_future(), context, span)
        entries: list[_Entry[Item, Result]] = []
        for index, (item, length) in enumerate(zip(items, lengths, strict=True)):
            order = next(self._order)
            entries.append(
                _Entry(item, length, index, order, (priority, self._virtual_time + waiting + index, order), now, call)
            )
        self._by_length.update(entries)
        self._by_turn.update(entries)
        self._dispatch_soon()
        try:
            await call.done
        except BaseException:
            self._drop(entries)
            raise
        return call.results  # type: ignore[return-value]

    def _dispatch_soon(self) -> None:
        """Dispatch after this turn of the event loop, so that calls that arrive together are batched together."""
        if not self._dispatching:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatching = False
        while self._active < self._limits.slots and self._by_length:
            entries = self._form()
            batch = _Batch(entries, len(entries))
            for entry in entries:
                entry.batch = batch
            self._active += 1
            batch.task = asyncio.create_task(self._work(batch), context=entries[0].call.context.copy())
            # a task cancelled before its first step runs no `finally`
            batch.task.add_done_callback(partial(self._worked, batch))

    def _worked(self, batch: _Batch[Item, Result], _: "asyncio.Task[None]") -> None:
        # Items may be large, and what refers to itself would keep them until a garbage collection.
        batch.entries, batch.task = [], None
        self._active -= 1
        self._dispatch_soon()

    def _form(self) -> "list[_Entry[Item, Result]]":
        """Take the entry whose turn it is and its neighbours in length, longer ones first, then shorter ones."""
        anchor = self._by_turn[0]
        self._virtual_time = max(self._virtual_time, anchor.turn[1])
        pending = self._by_length
        low = high = pending.index(anchor)
        while high + 1 < len(pending) and self._fits(pending[low].length, pending[high + 1].length, high - low + 2):
            high += 1
        while low > 0 and self._fits(pending[low - 1].length, pending[high].length, high - low + 2):
            low -= 1
        entries = list(pending[low : high + 1])
        del pending[low : high + 1]
        for entry in entries:
            self._by_turn.remove(entry)
        return entries

    def _fits(self, shortest: int, longest: int, items: int) -> bool:
        within = items <= self._limits.items and items * longest <= self._limits.padded_length
        return within and longest <= max(shortest + 4, 1.15 * shortest)

    async def _work(self, batch: _Batch[Item, Result]) -> None:
        entries, began = batch.entries, time.monotonic()
        length = sum(entry.length for entry in entries)
        self._measure.size.record(len(entries), self._labels)
        self._measure.padding.add(len(entries) * entries[-1].length - length, self._labels)
        for entry in entries:
            self._measure.queued.record(began - entry.submitted, self._labels)
        try:
            try:
                with self._span(entries, began):
                    results = await self._run([entry.item for entry in entries])
            finally:
                if wasted := sum(entry.call.done.done() for entry in entries):
                    self._measure.wasted.add(wasted, self._labels)
            self._deliver(entries, list(results))
        except asyncio.CancelledError:  # every call of the batch has gone, or the engine's channel was closed
            self._fail(entries, ServiceError(Kind.UNAVAILABLE, "the engine was stopped"))
        except Exception as error:
            self._fail(entries, error)
        else:
            seconds = time.monotonic() - began
            self._load.worked(length, seconds)
            self._measure.seconds.record(seconds, self._labels)

    def _span(self, entries: "list[_Entry[Item, Result]]", began: float) -> AbstractContextManager[object]:
        """Return a span of the first call's trace around a batch, linked with the spans of the other calls in it."""
        first = entries[0].call.span
        if not first.is_recording():
            return nullcontext()
        others = {entry.call.span for entry in entries if entry.call.span is not first}
        return self._measure.tracer.start_as_current_span(
            f"batch {self._labels['model']}",
            links=[Link(other.get_span_context()) for other in others],
            attributes={
                "flotilla.batch.items": len(entries),
                "flotilla.batch.queue_seconds": began - min(entry.submitted for entry in entries),
            },
            record_exception=False,
        )

    @staticmethod
    def _fail(entries: "list[_Entry[Item, Result]]", error: Exception) -> None:
        for entry in entries:
            if not entry.call.done.done():
                entry.call.done.set_exception(error)

    @staticmethod
    def _deliver(entries: "list[_Entry[Item, Result]]", results: list[Result]) -> None:
        if len(results) != len(entries):
            raise ServiceError(Kind.INTERNAL, f"the model returned {len(results)} results for {len(entries)} items")
        for entry, result in zip(entries, results, strict=True):
            entry.call.results[entry.index] = result
            entry.call.missing -= 1
            if not entry.call.missing and not entry.call.done.done():
                entry.call.done.set_result(None)

    def _drop(self, entries: "list[_Entry[Item, Result]]") -> None:
        """Forget what has not run, and cancel a running batch that nobody waits for any more."""
        for entry in entries:
            if entry.batch is None:
                self._by_length.remove(entry)
                self._by_turn.remove(entry)
                self._measure.cancelled.add(1, self._labels)
            else:
                entry.batch.live -= 1
                if not entry.batch.live and entry.batch.task is not None:
                    entry.batch.task.cancel()
