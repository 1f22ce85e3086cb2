"""A picture's way: header, memory, decoding in a thread, the task, drawing. Knows neither protos nor tasks' details."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from services.common.errors import ServiceError
from services.vision.annotation import MOST_PIXELS, canvas_of, canvas_scale, draw
from services.vision.decoding import Header, SizeLimits, decode, inspect
from services.vision.instruments import Instruments
from services.vision.meter import Meter
from services.vision.pool import PixelPool
from services.vision.tasks import Options, Pixels, Task
from services.vision.turnstile import Turn

Found = TypeVar("Found")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Source:
    """One picture of a call, its header known."""

    index: int
    data: bytes
    header: Header


@dataclass(frozen=True, slots=True)
class Answer(Generic[Found]):
    """What was found in one picture."""

    source: Source
    found: Sequence[Found]
    annotated: bytes


@dataclass(frozen=True, slots=True)
class _Decoded:
    prepared: Any
    canvas: Pixels | None
    began: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What pictures of all calls go through."""

    pool: PixelPool
    meter: Meter
    instruments: Instruments
    limits: SizeLimits
    decode_weight: float
    """Slot-seconds to decode a pixel."""

    async def inspect(self, images: Sequence[bytes]) -> list[Source | ServiceError]:
        """Return every picture with its header, or what is wrong with it; nothing is decoded."""
        return await asyncio.to_thread(lambda: [self._inspect(index, data) for index, data in enumerate(images)])

    def cost(self, task: Task[Any], sources: Iterable[Source]) -> float:
        """Return what the pictures cost, estimated, in slot-seconds (see Meter)."""
        return sum(self._cost(task, source.header) for source in sources)

    async def answer(self, task: Task[Found], source: Source, options: Options, turn: Turn) -> Answer[Found]:
        """Return what `task` finds in a picture. Raises INVALID_ARGUMENT for a file that is truncated or broken."""
        header, asked = source.header, time.monotonic()
        size = task.memory(header.width, header.height) + (3 * MOST_PIXELS if options.annotate else 0)
        async with self.pool.memory(size, turn):
            decoded = await self.pool.run(partial(_decode, task, source, options.annotate), turn)
            self.instruments.queued.record(decoded.began - asked)
            self.instruments.decoding.record(decoded.seconds, {"format": header.format})
            found = await task.find(decoded.prepared, options, turn)
            annotated = b""
            if decoded.canvas is not None:
                annotated = await self.pool.run(partial(draw, decoded.canvas, task.marks(found)), turn)
        self._count(task, source, len(found))
        return Answer(source, found, annotated)

    def _inspect(self, index: int, data: bytes) -> Source | ServiceError:
        try:
            return Source(index, data, inspect(data, field_of(index), self.limits))
        except ServiceError as error:
            return error

    def _cost(self, task: Task[Any], header: Header) -> float:
        return self.decode_weight * header.pixels + task.cost(header.width, header.height)

    def _count(self, task: Task[Any], source: Source, found: int) -> None:
        labels = {"task": task.model.task}
        self.meter.finished(self._cost(task, source.header))
        self.instruments.images.add(1, labels)
        self.instruments.pixels.add(source.header.pixels, labels)
        self.instruments.bytes.add(len(source.data), labels)
        self.instruments.found.add(found, labels)


def field_of(index: int) -> str:
    """Return the name of a picture's field in its request."""
    return f"images[{index}].data"


async def as_finished(
    jobs: Iterable[Callable[[], Coroutine[Any, Any, Result]]], window: int
) -> AsyncGenerator[Result, None]:
    """Run jobs, at most `window` at a time including results that nobody has taken yet; yield results as they come.

    The first job that fails ends it. What still runs when it ends, or is closed, is cancelled.
    """
    running: set[asyncio.Task[Result]] = set()
    waiting = iter(jobs)
    try:
        while True:
            for job in waiting:
                running.add(asyncio.create_task(job()))
                if len(running) >= window:
                    break
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                running.remove(task)
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _decode(task: Task[Any], source: Source, annotate: bool) -> _Decoded:
    """Decode and prepare a picture. Runs in a thread; only the small results outlive it."""
    began, header = time.monotonic(), source.header
    scale = task.scale(header.width, header.height)
    if annotate:
        scale = max(scale, canvas_scale(header.width, header.height))
    pixels = decode(source.data, header, field_of(source.index), scale)
    prepared = task.prepare(pixels)
    canvas = canvas_of(pixels) if annotate else None
    return _Decoded(prepared, canvas, began, time.monotonic() - began)
