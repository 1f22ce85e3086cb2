"""Files of any size: taken in to disk, admitted, decoded, written down. Knows no messages.

A file that waits holds its bytes on disk and nothing else.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from services.asr.costs import Costs
from services.asr.instruments import Instruments
from services.asr.options import Options
from services.asr.passage import Segment
from services.asr.pulse import with_pulse
from services.asr.recognition import Recognition
from services.asr.settings import AsrSettings
from services.asr.sound.audio import Audio, AudioFormat, AudioLimits
from services.asr.sound.decoding import decode
from services.asr.sound.spool import Spool
from services.asr.transcript import Tools, Transcript
from services.asr.vad import Vad
from services.common.admission import Admission
from services.common.errors import Kind, ServiceError
from services.common.load import Load
from services.common.request_context import priority_of

PULSE_SECONDS = 1.0
"""A caller hears of its file at least so often."""
_FIELD = "audio"


@dataclass(frozen=True, slots=True)
class Summary:
    """What closes a transcript."""

    model: str
    language: str
    """ISO 639-1 code; empty where nobody speaks and none was given."""
    language_probability: float
    duration: float
    audio_seconds: float
    """Of all channels."""
    speech_seconds: float
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something about a file; with neither segment nor summary only its progress."""

    done_seconds: float
    total_seconds: float
    """0 while it is not known."""
    segment: Segment | None = None
    summary: Summary | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted of a file."""

    options: Options
    audio_format: AudioFormat | None


@dataclass(slots=True)
class _Job:
    order: Order
    spool: Spool
    transcript: Transcript | None = None

    def event(self, segment: Segment | None = None, summary: Summary | None = None) -> Event:
        if self.transcript is None:
            return Event(0.0, 0.0)
        total = self.transcript.seconds
        return Event(total if summary else min(self.transcript.done_seconds, total), total, segment, summary)


@dataclass(frozen=True, slots=True)
class Engine:
    """What files are written down with."""

    recognitions: Mapping[str, Recognition]
    """By public model id, the default one first."""
    vad: Vad
    admission: Admission
    load: Load
    instruments: Instruments


class Files:
    """Writes down files."""

    def __init__(self, settings: AsrSettings, engine: Engine) -> None:
        self.limits = AudioLimits(settings.max_audio_bytes, settings.max_audio_seconds, settings.max_channels)
        self._settings, self._engine = settings, engine
        self._costs = Costs(settings.max_audio_seconds * settings.max_channels)
        self._directory = settings.common.state_dir / "asr" / "audio"
        self._uploads, self._most_uploads = 0, settings.admission_concurrency + settings.admission_queue
        engine.load.bounded_by(lambda: self._uploads / self._most_uploads)

    async def transcribe(self, pieces: AsyncIterator[bytes], order: Order, context: Any) -> AsyncGenerator[Event, None]:
        """Yield the segments of a file that comes in pieces, its progress every second, and the summary.

        `context` is that of the gRPC call. Raises ServiceError.
        """
        with self._place():
            async with Spool(self._directory, self.limits.bytes, _FIELD) as spool:
                await self._take_in(pieces, spool)
                job = _Job(order, spool)
                async with aclosing(with_pulse(self._admitted(job, context), PULSE_SECONDS)) as events:
                    async for event in events:
                        yield event or job.event()

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Hold a place on the disk; those who would find none in the queue either are refused before they send."""
        if self._uploads >= self._most_uploads:
            raise self._engine.admission.turn_away("queue_full")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    async def _take_in(self, pieces: AsyncIterator[bytes], spool: Spool) -> None:
        idle = self._settings.upload_idle_seconds
        while True:
            try:
                async with asyncio.timeout(idle):
                    piece = await anext(pieces, None)
            except TimeoutError:
                message = f"no audio has come for {idle:g} s, and the file is not complete"
                raise ServiceError(Kind.REQUEST_TIMEOUT, message) from None
            if piece is None:
                return
            await spool.write(piece)

    async def _admitted(self, job: _Job, context: Any) -> AsyncGenerator[Event, None]:
        order, spool, engine = job.order, job.spool, self._engine
        estimate = self._costs.of_bytes(spool.size, order.audio_format, separate=order.options.separate_channels)
        async with engine.admission.admit_call(estimate, context) as place:
            began = time.monotonic()
            audio = await decode(
                spool, order.audio_format, self.limits, separate_channels=order.options.separate_channels
            )
            try:
                place.costs(self._costs.of_seconds(audio.seconds * audio.channels))
                async with aclosing(self._written(job, audio, priority_of(context))) as events:
                    async for event in events:
                        yield event
            finally:
                audio.close()
            self._done(job, audio, time.monotonic() - began)

    async def _written(self, job: _Job, audio: Audio, priority: int) -> AsyncGenerator[Event, None]:
        options, engine = job.order.options, self._engine
        tools = Tools(engine.recognitions[options.model], engine.vad, 2 * self._settings.max_batch_items)
        job.transcript = transcript = Transcript(audio, options, tools, priority)
        async with aclosing(transcript.segments()) as segments:
            async for segment in segments:
                engine.instruments.segments(options.model, 1)
                yield job.event(segment=segment)
        summary = Summary(
            model=options.model,
            language=transcript.language,
            language_probability=transcript.language_probability,
            duration=audio.seconds,
            audio_seconds=audio.seconds * audio.channels,
            speech_seconds=transcript.speech_seconds,
            output_tokens=transcript.tokens,
        )
        yield job.event(summary=summary)

    def _done(self, job: _Job, audio: Audio, took: float) -> None:
        if job.transcript is None:
            return
        seconds, speech = audio.seconds * audio.channels, job.transcript.speech_seconds
        self._costs.learn(job.spool.size, seconds, speech)
        model, language = job.order.options.model, job.transcript.language or "none"
        self._engine.instruments.transcribed(model, language, seconds, speech, took)
