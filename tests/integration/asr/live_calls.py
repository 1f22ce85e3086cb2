"""Live streams as a caller makes them."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import numpy as np
from flotilla.asr.v1 import asr_pb2 as pb

from services.gateway.ending import Ending
from tests.unit.asr.speech import JFK, RATE, samples_of, silence

TINY = "whisper-tiny.en"
PIECE = RATE // 10


def pcm(samples: np.ndarray) -> bytes:
    return bytes((samples * 32_767).astype("<i2").tobytes())


def jfk(tail: float = 0.0) -> np.ndarray:
    return np.concatenate([samples_of(JFK), silence(tail)])


def config(model: str = TINY, channels: int = 1, **fields) -> pb.StreamingTranscribeRequest:
    audio = pb.AudioFormat(encoding=pb.ENCODING_PCM_S16LE, sample_rate_hz=RATE, channels=channels)
    inner = pb.TranscriptionConfig(
        model=model, language="en", audio=audio, word_timestamps=True, separate_channels=channels > 1
    )
    return pb.StreamingTranscribeRequest(config=pb.StreamingConfig(config=inner, **fields))


def audio(data: bytes) -> pb.StreamingTranscribeRequest:
    return pb.StreamingTranscribeRequest(audio=data)


async def spoken(
    first: pb.StreamingTranscribeRequest, samples: np.ndarray, live: bool = False, piece: int = PIECE
) -> AsyncIterator[pb.StreamingTranscribeRequest]:
    """The requests of a stream; `live`: as fast as somebody speaks."""
    yield first
    began = time.monotonic()
    for start in range(0, len(samples), piece):
        if live:
            await asyncio.sleep(began + start / RATE - time.monotonic())
        yield audio(pcm(samples[start : start + piece]))


@dataclass
class Answer:
    """All that came back of a stream."""

    finals: list[pb.Segment] = field(default_factory=list)
    interims: list[pb.Hypothesis] = field(default_factory=list)
    events: list[pb.SpeechEvent] = field(default_factory=list)
    summary: pb.Summary | None = None
    fault: grpc.aio.AioRpcError | None = None

    @property
    def words(self) -> str:
        text = " ".join(segment.text for segment in self.finals).lower()
        return " ".join("".join(letter if letter.isalnum() else " " for letter in text).split())


async def answer(stub, requests) -> Answer:
    result = Answer()
    call = stub.StreamingTranscribe(requests)
    ending = Ending(call)
    try:
        async for response in call:
            match response.WhichOneof("content"):
                case "hypothesis" if response.hypothesis.is_final:
                    result.finals.append(response.hypothesis.segment)
                case "hypothesis":
                    result.interims.append(response.hypothesis)
                case "event":
                    result.events.append(response.event)
                case "summary":
                    result.summary = response.summary
    except grpc.aio.AioRpcError as fault:
        result.fault = await ending.meant(fault)
    return result
