"""Audio of a call: its format, its limits, and the decoded samples. Knows no codec and no model."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.asr.sound.scratch import ScratchFile
from services.common.errors import invalid

SAMPLE_RATE: Final = 16_000
LOWEST_RATE, HIGHEST_RATE = 4_000, 192_000
FULL_SCALE: Final = 32_768.0
"""What 1.0 is in 16 bits."""

Floats = NDArray[np.float32]
Samples = NDArray[np.int16]
"""[samples, channels]"""


class Encoding(Enum):
    """How samples are stored where a file does not say it itself, by the names of flotilla.asr.v1.Encoding."""

    PCM_S16LE = "PCM_S16LE"
    PCM_U8 = "PCM_U8"
    MULAW = "MULAW"
    ALAW = "ALAW"
    FLAC = "FLAC"
    OGG_OPUS = "OGG_OPUS"

    @property
    def has_header(self) -> bool:
        """Whether rate and channels are in the data."""
        return self in (Encoding.FLAC, Encoding.OGG_OPUS)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel without a header."""
        return 2 if self is Encoding.PCM_S16LE else 1


@dataclass(frozen=True, slots=True)
class FormatFields:
    """What the parts of a format are called in the caller's request; for errors."""

    encoding: str = "config.audio.encoding"
    sample_rate: str = "config.audio.sample_rate_hz"
    channels: str = "config.audio.channels"


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How audio is stored. With an encoding that has a header, 0 leaves rate and channels to the header."""

    encoding: Encoding
    sample_rate: int
    """Hz"""
    channels: int


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """What the audio of one call may be."""

    bytes: int
    seconds: float
    channels: int


def audio_format(
    encoding: Encoding | None, sample_rate: int, channels: int, limits: AudioLimits, fields: FormatFields
) -> AudioFormat:
    """Return the format a caller has named. Raises INVALID_ARGUMENT with the name of the field that is wrong."""
    if encoding is None:
        names = ", ".join(known.value for known in Encoding)
        raise invalid(fields.encoding, f"{fields.encoding} must be one of {names} for audio without a file header")
    if not (encoding.has_header and sample_rate == 0):
        check_rate(sample_rate, fields.sample_rate)
    if channels == 0 and not encoding.has_header:
        channels = 1
    if channels:
        check_channels(channels, limits, fields.channels)
    return AudioFormat(encoding, sample_rate, channels)


def check_rate(sample_rate: int, field: str) -> None:
    """Raise INVALID_ARGUMENT that names `field` unless samples of this rate can be converted."""
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise invalid(field, f"{field}: {sample_rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz are possible")


def check_channels(channels: int, limits: AudioLimits, field: str) -> None:
    """Raise INVALID_ARGUMENT that names `field` for no channels, or too many."""
    if not 1 <= channels <= limits.channels:
        raise invalid(field, f"{field}: {channels} channels; 1 to {limits.channels} are possible")


class Audio:
    """Decoded audio at 16 kHz, 16 bits a sample on disk. Reading by position is safe from several threads."""

    def __init__(self, file: ScratchFile, channels: int) -> None:
        """Take over `file`: int16 samples, channels interleaved."""
        self._file, self.channels = file, channels
        self.samples = file.size // (2 * channels)
        """Of each channel."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples / SAMPLE_RATE

    def read(self, channel: int, start_sample: int, stop_sample: int) -> Floats:
        """Return samples -1 to 1 [stop_sample - start_sample] of a channel; fewer at the end of the audio."""
        frame = 2 * self.channels
        raw = self._file.read(start_sample * frame, max(0, stop_sample - start_sample) * frame)
        return to_floats(np.frombuffer(raw, np.int16).reshape(-1, self.channels)[:, channel])

    def close(self) -> None:
        """Free the disk space; more than once does no harm."""
        self._file.close()


def to_floats(samples: NDArray[np.int16]) -> Floats:
    """Return 16-bit samples of any shape as -1 to 1."""
    return samples.astype(np.float32) / np.float32(FULL_SCALE)
