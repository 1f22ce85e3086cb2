"""Calls of a real ASR service."""

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import numpy as np
from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.sound.audio import SAMPLE_RATE
from tests.unit.asr.speech import JFK, NOVEL, samples_of, silence

BASE, TINY = "whisper-base", "whisper-tiny.en"
RAW = pb.AudioFormat(encoding=pb.ENCODING_PCM_S16LE, sample_rate_hz=SAMPLE_RATE)


def plain(text: str) -> str:
    """A text in lower case without marks."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def raw(samples: np.ndarray) -> bytes:
    return (samples * 32_767).astype("<i2").tobytes()


def long_recording(rounds: int) -> np.ndarray:
    """Two speakers by turns with pauses of different lengths; about 21 s a round."""
    parts: list[np.ndarray] = []
    for number in range(rounds):
        parts += [samples_of(JFK), silence(0.5 + number % 3), samples_of(NOVEL), silence(1.5)]
    return np.concatenate(parts)


def requests(data: bytes, piece: int = 256 * 1024, **config: Any) -> Iterable[pb.TranscribeFileRequest]:
    yield pb.TranscribeFileRequest(config=pb.TranscriptionConfig(**config))
    for first in range(0, len(data), piece):
        yield pb.TranscribeFileRequest(audio=data[first : first + piece])


async def responses(stub: Any, data: bytes, **config: Any) -> AsyncIterator[pb.TranscribeFileResponse]:
    async for response in stub.TranscribeFile(requests(data, **config)):
        yield response
