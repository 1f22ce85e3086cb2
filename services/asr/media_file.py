"""Files that describe themselves to decoded frames, by FFmpeg's demuxers and decoders, and by few of them.

Only what is listed here is opened, nothing that names other files or addresses among it; pictures and video are never
decoded. A file that is cut off is read like a player would, as far as its format has no more to say: WAV, MP3, AAC,
OGG and WebM end where they end; FLAC and MP4 know their length and are refused when there is less.
"""

import os
from collections.abc import Callable, Iterator
from typing import Final

import av
from av import AudioFrame, AudioStream, Packet
from av.container import InputContainer
from av.error import FFmpegError

from services.asr.audio import AudioLimits, check_channels, check_rate
from services.asr.scratch import ScratchFile
from services.common.errors import ServiceError, invalid

_NAMES: Final = "WAV, FLAC, MP3, AAC, OGG (Opus, Vorbis), M4A, MP4 or WebM"
_CONTAINERS: Final = ("wav", "flac", "mp3", "aac", "ogg", "mov", "matroska")
_PCM: Final = ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw")
_LOSSLESS: Final = ("flac", "alac")
_CODECS: Final = (*_PCM, *_LOSSLESS, "mp3", "mp3float", "aac", "vorbis", "opus", "pcm_s16be")
_OPTIONS: Final = {
    "format_whitelist": ",".join(_CONTAINERS),
    "codec_whitelist": ",".join(_CODECS),
    "protocol_whitelist": "none",
    "max_streams": "64",
}
_BUFFER_BYTES = 64 * 1024
_LEAST_BYTES_PER_SECOND = 1_000  # no common encoder goes below 8 kbit/s
_TOLERATED_SECONDS, _TOLERATED_SHARE = 1.0, 0.01
_FLAC_TOTAL = slice(10, 18)  # of STREAMINFO: the lower 36 bits are the samples (RFC 9639, section 8.2)


class MediaFile:
    """An open file with audio, for one thread. A context."""

    def __init__(self, file: ScratchFile, field: str, limits: AudioLimits, proceed: Callable[[], None]) -> None:
        """Open `file` and hold its header against `limits`.

        `proceed` is called before every piece of work and may raise to end it. Raises INVALID_ARGUMENT that names
        `field` for a file that cannot be accepted.
        """
        self._field, self._limits, self._proceed = field, limits, proceed
        self._container = _opened(file, field, proceed)
        try:
            self._stream = self._audio()
            self._check(file.size)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> "MediaFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def frames(self) -> Iterator[AudioFrame]:
        """Yield what is decoded. Raises INVALID_ARGUMENT where the file breaks."""
        expected, decoded, seconds, damaged = self._expected_samples(), 0, 0.0, 0.0
        try:
            for packet in self._container.demux(self._stream):
                self._proceed()
                frames = self._decoded(packet)
                if frames is None:
                    damaged += self._seconds_of(packet)
                    if self._lossless or damaged > _TOLERATED_SECONDS + _TOLERATED_SHARE * seconds:
                        raise self._broken(seconds)
                    continue
                for frame in frames:
                    self._check_frame(frame)
                    decoded, seconds = decoded + frame.samples, seconds + frame.samples / frame.sample_rate
                    yield frame
        except FFmpegError:
            raise self._broken(seconds) from None
        if decoded == 0:
            raise invalid(self._field, f"{self._field} has no audio that can be decoded")
        if decoded < expected:
            raise self._broken(seconds)

    @property
    def _lossless(self) -> bool:
        return self._stream.codec_context.name in _LOSSLESS

    def _audio(self) -> AudioStream:
        stream = self._container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise invalid(self._field, f"{self._field} has no audio track")
        name = stream.codec_context.name if stream.codec_context else "an unknown codec"
        if name not in _CODECS:
            raise invalid(self._field, f"{self._field} holds audio as {name}; {_NAMES} can be read")
        return stream

    def _check(self, size: int) -> None:
        context = self._stream.codec_context
        check_rate(context.sample_rate, self._field)
        check_channels(context.channels, self._limits, self._field)
        if self._declared_seconds() > self._limits.seconds and size > self._limits.seconds * self._bytes_per_second():
            raise too_long(self._field, self._limits)
        context.thread_count = 1
        if self._lossless:
            context.options = {"err_detect": "crccheck+explode"}

    def _declared_seconds(self) -> float:
        stream = self._stream
        if stream.duration is None or stream.time_base is None:
            return (self._container.duration or 0) / av.time_base
        return float(stream.duration * stream.time_base)

    def _bytes_per_second(self) -> float:
        """Return the least that a second of the audio can take."""
        context = self._stream.codec_context
        pcm = context.name in _PCM
        return (context.bit_rate or 0) / 8 if pcm else _LEAST_BYTES_PER_SECOND

    def _expected_samples(self) -> int:
        header = self._stream.codec_context.extradata or b""
        if self._stream.codec_context.name != "flac":
            return 0
        return int.from_bytes(header[_FLAC_TOTAL], "big") & (2**36 - 1)

    def _decoded(self, packet: "Packet[AudioStream]") -> list[AudioFrame] | None:
        """Return the frames of a packet, None for a damaged one."""
        try:
            return self._stream.decode(packet)
        except FFmpegError:
            return None

    def _seconds_of(self, packet: "Packet[AudioStream]") -> float:
        return float((packet.duration or 0) * (packet.time_base or 0))

    def _check_frame(self, frame: AudioFrame) -> None:
        check_rate(frame.sample_rate, self._field)
        check_channels(frame.layout.nb_channels, self._limits, self._field)

    def _broken(self, seconds: float) -> ServiceError:
        return invalid(self._field, f"{self._field} is truncated or broken after {seconds:.2f} seconds")


def too_long(field: str, limits: AudioLimits) -> ServiceError:
    """Return the error for audio past the limit of time."""
    return invalid(field, f"{field} is longer than {limits.seconds:g} seconds, which is the limit")


class _Source:
    """What FFmpeg reads from. An exception ends its work."""

    def __init__(self, file: ScratchFile, proceed: Callable[[], None]) -> None:
        self._file, self._proceed, self._position = file, proceed, 0

    def read(self, size: int) -> bytes:
        self._proceed()
        data = self._file.read(self._position, size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position


def _opened(file: ScratchFile, field: str, proceed: Callable[[], None]) -> InputContainer:
    try:
        source = _Source(file, proceed)
        return av.open(source, "r", options=_OPTIONS, metadata_errors="replace", buffer_size=_BUFFER_BYTES)
    except FFmpegError:
        raise invalid(field, f"{field} is not a {_NAMES} file, or its header is broken") from None
