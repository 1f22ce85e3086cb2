"""Samples without a header to frames: 16 and 8-bit PCM and G.711. Keeps the bytes of an unfinished sample."""

from functools import lru_cache

import numpy as np
from av import AudioFrame
from numpy.typing import NDArray

from services.asr.sound.audio import AudioFormat, Encoding


class RawSamples:
    """Bytes in pieces of any size to frames of whole samples."""

    def __init__(self, audio_format: AudioFormat) -> None:
        """Take samples as `audio_format` says, which has a rate, channels, and an encoding without a header."""
        self._format = audio_format
        self._step = audio_format.encoding.sample_bytes * audio_format.channels
        self._rest = b""

    @property
    def unfinished(self) -> int:
        """Bytes so far that are no whole sample of every channel."""
        return len(self._rest)

    def feed(self, piece: bytes) -> AudioFrame | None:
        """Return the samples that are whole by now, None for none."""
        data = self._rest + piece if self._rest else piece
        whole = len(data) - len(data) % self._step
        self._rest = data[whole:]
        return self._frame(data[:whole]) if whole else None

    def _frame(self, data: bytes) -> AudioFrame:
        samples = _linear(data, self._format.encoding)
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=_layout(self._format.channels))
        frame.sample_rate = self._format.sample_rate
        return frame


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def _linear(data: bytes, encoding: Encoding) -> NDArray[np.int16]:
    match encoding:
        case Encoding.PCM_S16LE:
            return np.frombuffer(data, "<i2")
        case Encoding.PCM_U8:
            return (np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8
        case Encoding.MULAW:
            return _mulaw()[np.frombuffer(data, np.uint8)]
        case Encoding.ALAW:
            return _alaw()[np.frombuffer(data, np.uint8)]
        case _:
            raise ValueError(f"{encoding.value} has a header")


@lru_cache(maxsize=1)
def _mulaw() -> NDArray[np.int16]:
    """Return the 16-bit value of every code (ITU-T G.711, table 2)."""
    code = ~np.arange(256, dtype=np.uint8)
    segment, step = (code >> 4) & 7, code & 15
    size = (((step.astype(np.int32) << 3) + 0x84) << segment) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


@lru_cache(maxsize=1)
def _alaw() -> NDArray[np.int16]:
    """Return the 16-bit value of every code (ITU-T G.711, table 1)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment, step = (code >> 4) & 7, (code & 15).astype(np.int32) << 4
    size = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment.astype(np.int32) - 1, 0))
    return np.where(code & 0x80, size, -size).astype(np.int16)
