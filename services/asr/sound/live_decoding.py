"""Audio that is still being spoken to 16 kHz, piece by piece. Everything stays in memory, and little of it."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from av import AudioFrame

from services.asr.sound.audio import (
    AudioFormat,
    AudioLimits,
    Encoding,
    Floats,
    Samples,
    check_channels,
    check_rate,
    to_floats,
)
from services.asr.sound.flac_stream import FlacStream
from services.asr.sound.opus_stream import OpusStream
from services.asr.sound.raw_samples import RawSamples
from services.asr.sound.resampling import Resampler
from services.asr.sound.wav_header import WavHeader
from services.common.errors import invalid


class LiveDecoder:
    """The decoder of one stream, not for several threads at once.

    Pieces of any size give the samples that the whole gives. A piece of a second takes about a millisecond.
    """

    def __init__(self, audio_format: AudioFormat, limits: AudioLimits, field: str, *, separate_channels: bool) -> None:
        """Mix the channels or keep them apart. `field` is what the audio is called in errors."""
        self._source = _source(audio_format, limits, field)
        self._resampler = Resampler(separate=separate_channels)
        self._separate, self._field = separate_channels, field
        self.channels = audio_format.channels if separate_channels else 1
        """Rows of the result; 0 until it is known from the header of a stream."""

    def feed(self, piece: bytes) -> Floats:
        """Return the samples -1 to 1 [channels, n] that are ready. Raises INVALID_ARGUMENT for broken data."""
        return self._floats([self._resampled(frame) for frame in self._source.feed(piece)])

    def finish(self) -> Floats:
        """Return the samples [channels, n] that were held back. Raises INVALID_ARGUMENT for a stream cut off."""
        ready = [self._resampled(frame) for frame in self._source.finish()]
        return self._floats([*ready, self._resampler.finish()])

    def _resampled(self, frame: AudioFrame) -> Samples:
        found = frame.layout.nb_channels if self._separate else 1
        if self.channels not in (0, found):
            raise invalid(self._field, f"{self._field} has {found} channels, not the {self.channels} it should have")
        self.channels = found
        return self._resampler.feed(frame)

    def _floats(self, ready: list[Samples]) -> Floats:
        samples = [piece for piece in ready if len(piece)]
        if not samples:
            return np.zeros((self.channels, 0), np.float32)
        return np.ascontiguousarray(to_floats(np.concatenate(samples)).T)


class _Source(Protocol):
    def feed(self, piece: bytes) -> Iterable[AudioFrame]: ...
    def finish(self) -> Iterable[AudioFrame]: ...


def _source(audio_format: AudioFormat, limits: AudioLimits, field: str) -> _Source:
    match audio_format.encoding:
        case Encoding.FLAC:
            return FlacStream(field, limits)
        case Encoding.OGG_OPUS:
            return OpusStream(field, limits)
        case _:
            return _RawStream(audio_format, limits, field)


class _RawStream:
    """Raw samples, with the header of a WAV file in front of them or without; what the header says counts."""

    def __init__(self, audio_format: AudioFormat, limits: AudioLimits, field: str) -> None:
        self._format, self._limits, self._field = audio_format, limits, field
        self._header = WavHeader(field)
        self._samples: RawSamples | None = None

    def feed(self, piece: bytes) -> Iterator[AudioFrame]:
        data = self._header.feed(piece)
        if self._header.decided:
            yield from self._decoded(data)

    def finish(self) -> Iterator[AudioFrame]:
        """A sample that is not whole is left out."""
        yield from self._decoded(self._header.finish())

    def _decoded(self, data: bytes) -> Iterator[AudioFrame]:
        if self._samples is None:
            self._samples = RawSamples(self._true_format())
        if frame := self._samples.feed(data):
            yield frame

    def _true_format(self) -> AudioFormat:
        if self._header.found is None:
            return self._format
        encoding, sample_rate, channels = self._header.found
        check_rate(sample_rate, self._field)
        check_channels(channels, self._limits, self._field)
        return AudioFormat(encoding, sample_rate, channels)
