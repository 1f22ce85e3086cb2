"""Audio in and samples out, as the tests of audio ask for it."""

from contextlib import asynccontextmanager

import numpy as np
import pytest

from services.asr.sound.audio import AudioFormat, AudioLimits, Encoding
from services.asr.sound.decoding import decode
from services.asr.sound.live_decoding import LiveDecoder
from services.asr.sound.spool import Spool
from services.common.errors import Kind, ServiceError

LIMITS = AudioLimits(bytes=64 * 1024 * 1024, seconds=60.0, channels=8)
FIELD = "audio"


@asynccontextmanager
async def decoded(data, directory, audio_format=None, *, limits=LIMITS, separate=False):
    async with Spool(directory, limits.bytes, FIELD) as spool:
        for start in range(0, len(data), 100_000):
            await spool.write(data[start : start + 100_000])
        audio = await decode(spool, audio_format, limits, separate_channels=separate)
    try:
        yield audio
    finally:
        audio.close()


async def samples(data, directory, audio_format=None, *, limits=LIMITS, separate=False):
    """The samples [channels, n] of a file."""
    async with decoded(data, directory, audio_format, limits=limits, separate=separate) as audio:
        return np.stack([audio.read(channel, 0, audio.samples) for channel in range(audio.channels)])


async def refusal(data, directory, audio_format=None, *, limits=LIMITS, separate=False):
    """The message of the refusal, which names the field and leaves no file behind."""
    with pytest.raises(ServiceError) as caught:
        await samples(data, directory, audio_format, limits=limits, separate=separate)
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, FIELD)
    assert FIELD in caught.value.message
    return caught.value.message


def live(data, audio_format, sizes, *, separate=False):
    """The samples [channels, n] of a stream that comes in pieces of these sizes, over and over."""
    decoder = LiveDecoder(audio_format, LIMITS, FIELD, separate_channels=separate)
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(decoder.feed(data[at : at + size]))
        at, turn = at + size, turn + 1
    pieces.append(decoder.finish())
    assert all(piece.dtype == np.float32 and piece.ndim == 2 for piece in pieces)
    return np.concatenate([piece for piece in pieces if piece.size], axis=1)


def raw(encoding=Encoding.PCM_S16LE, rate=16_000, channels=1):
    return AudioFormat(encoding, rate, channels)


def loudest_hertz(channel):
    """The frequency of the loudest component."""
    spectrum = np.abs(np.fft.rfft(channel * np.hanning(len(channel))))
    return spectrum.argmax() * 16_000 / len(channel)


def level(channel):
    """The amplitude of a sine, of its middle half."""
    middle = channel[len(channel) // 4 : -len(channel) // 4]
    return float(np.sqrt(2 * np.mean(middle**2)))
