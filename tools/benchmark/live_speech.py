"""Live streams: clips sent in real time, and how long their results take."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np
from flotilla.asr.v1 import asr_pb2 as pb
from flotilla.asr.v1 import asr_pb2_grpc

from tools.benchmark.speech import RATE, Clip, Samples, word_error_rate

PIECE_SECONDS = 0.1
PAUSE_SECONDS = 2.0
"""Silence behind a clip, in which the end of speech has to be found."""
LEAST_CLIPS = 10
"""Sent for every row."""


@dataclass(slots=True)
class Stream:
    """What came of one stream, times in seconds."""

    text: str = ""
    first_word: float | None = None
    """From the beginning of the first word to the first result with text."""
    after_speech: float | None = None
    """From the end of the last word to its final result, where silence follows."""
    after_close: float | None = None
    """From the client's half-close to the last final result."""
    interims: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class LiveRow:
    """Streams of one model at the same time. Medians and the slowest in milliseconds."""

    model: str
    streams: int
    first_word: float
    after_speech: float
    after_speech_slowest: float
    after_close: float
    after_close_slowest: float
    interims_per_second: float
    word_error_rate: float
    errors: int
    first_error: str


@dataclass(slots=True)
class _Clock:
    began: float = field(default_factory=time.perf_counter)
    closed: float = 0.0

    def now(self) -> float:
        return time.perf_counter() - self.began


async def live_row(address: str, model: str, clips: Sequence[Clip], streams: int) -> LiveRow:
    """Stream clips in real time, `streams` at a time: some closed at their end, others with silence behind them."""
    silence = np.zeros(int(PAUSE_SECONDS * RATE), dtype=np.int16)
    chosen = [clips[number % len(clips)] for number in range(max(LEAST_CLIPS, 2 * streams))]
    audio = [
        clip.samples if number % 2 else np.concatenate([clip.samples, silence]) for number, clip in enumerate(chosen)
    ]
    async with grpc.aio.insecure_channel(address) as channel:
        every = await _all(asr_pb2_grpc.AsrServiceStub(channel), model, audio, streams)
    speech = [stream.after_speech for stream in every[::2] if stream.after_speech is not None]
    close = [stream.after_close for stream in every[1::2] if stream.after_close is not None]
    first = [stream.first_word for stream in every if stream.first_word is not None]
    return LiveRow(
        model,
        streams,
        first_word=_median(first),
        after_speech=_median(speech),
        after_speech_slowest=1e3 * max(speech, default=float("nan")),
        after_close=_median(close),
        after_close_slowest=1e3 * max(close, default=float("nan")),
        interims_per_second=sum(stream.interims for stream in every) / sum(clip.seconds for clip in chosen),
        word_error_rate=word_error_rate([clip.text for clip in chosen], [stream.text for stream in every]),
        errors=sum(bool(stream.error) for stream in every),
        first_error=next((stream.error for stream in every if stream.error), ""),
    )


async def _all(
    stub: "asr_pb2_grpc.AsrServiceAsyncStub", model: str, audio: Sequence[Samples], streams: int
) -> list[Stream]:
    """Stream all, `streams` at a time, staggered so that they do not all end at once."""
    places = asyncio.Semaphore(streams)

    async def one(number: int, samples: Samples) -> Stream:
        async with places:
            await asyncio.sleep(0.37 * (number % streams))
            return await _one(stub, model, samples)

    return await asyncio.gather(*(one(number, samples) for number, samples in enumerate(audio)))


async def _one(stub: "asr_pb2_grpc.AsrServiceAsyncStub", model: str, samples: Samples) -> Stream:
    stream, clock, finals = Stream(), _Clock(), list[str]()
    try:
        async for response in stub.StreamingTranscribe(_requests(model, samples, clock)):
            if response.WhichOneof("content") != "hypothesis":
                continue
            segment, now = response.hypothesis.segment, clock.now()
            if segment.text.strip() and stream.first_word is None:
                stream.first_word = now - segment.start
            if not response.hypothesis.is_final:
                stream.interims += 1
                continue
            finals.append(segment.text)
            if clock.closed:
                stream.after_close = now - clock.closed
            else:
                stream.after_speech = now - segment.end
    except grpc.aio.AioRpcError as error:
        stream.error = f"{error.code().name}: {error.details()}"[:300]
    stream.text = " ".join(text.strip() for text in finals)
    return stream


async def _requests(model: str, samples: Samples, clock: _Clock) -> AsyncIterator[pb.StreamingTranscribeRequest]:
    audio = pb.AudioFormat(encoding=pb.ENCODING_PCM_S16LE, sample_rate_hz=RATE, channels=1)
    config = pb.TranscriptionConfig(model=model, language="en", audio=audio)
    yield pb.StreamingTranscribeRequest(config=pb.StreamingConfig(config=config, interim_results=True))
    step = int(PIECE_SECONDS * RATE)
    clock.began = time.perf_counter()
    for start in range(0, len(samples), step):
        piece = samples[start : start + step]
        await asyncio.sleep(max(0.0, (start + len(piece)) / RATE - clock.now()))
        yield pb.StreamingTranscribeRequest(audio=piece.tobytes())
    clock.closed = clock.now()


def _median(seconds: Sequence[float]) -> float:
    return 1e3 * statistics.median(seconds) if seconds else float("nan")
