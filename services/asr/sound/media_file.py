"""Files that describe themselves to decoded frames, by FFmpeg's demuxers and decoders, and by few of them.

Only what is listed here is opened, nothing that names other files or addresses among it; pictures and video are never
decoded. A file that is cut off is read like a player would, as far as its format has no more to say: WAV, MP3, AAC,
OGG and WebM end where they end; FLAC and MP4 know their length and are refused when there is less.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import av
from av import AudioFrame, AudioStream, Packet
from av.container import InputContainer
from av.error import FFmpegError

from services.asr.sound.audio import AudioLimits, check_channels, check_rate
from services.asr.sound.mp4_index import index_entries, is_mp4
from services.asr.sound.scratch import ScratchFile
from services.common.errors import ServiceError, invalid

_NAMES: Final = "WAV, FLAC, MP3, AAC, OGG (Opus, Vorbis), M4A, MP4 or WebM"
_CONTAINERS: Final = ("wav", "flac", "mp3", "aac", "ogg", "matroska")
_MP4: Final = "mov"
_PCM: Final = ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw")
_LOSSLESS: Final = ("flac", "alac")
_CODECS: Final = (*_PCM, *_LOSSLESS, "mp3", "mp3float", "aac", "vorbis", "opus")
_OPTIONS: Final = {
    "codec_whitelist": ",".join(_CODECS),
    "protocol_whitelist": "none",
    "max_streams": "64",
}
_BUFFER_BYTES = 64 * 1024
_INDEX_ENTRIES_PER_SECOND = 250  # sound and pictures together; each takes about 36 bytes of memory
_LEAST_BYTES_PER_SECOND = 1_000  # no common encoder goes below 8 kbit/s
_INDEXED: Final = ("mov,mp4,m4a,3gp,3g2,mj2",)
_GAPLESS: Final = ("flac", "ogg")
_USUAL_PACKET_SECONDS = 0.02
_TOLERATED_SECONDS, _TOLERATED_SHARE = 0.25, 0.001
_FLAC_TOTAL = slice(10, 18)  # of STREAMINFO: the lower 36 bits are the samples (RFC 9639, section 8.2)


class MediaFile:
    """An open file with audio, for one thread. A context."""

    def __init__(self, file: ScratchFile, field: str, limits: AudioLimits, proceed: Callable[[], None]) -> None:
        """Open `file` and hold its header against `limits`.

        `proceed` is called before every piece of work and may raise to end it. Raises INVALID_ARGUMENT that names
        `field` for a file that cannot be accepted.
        """
        self._field, self._limits, self._proceed = field, limits, proceed
        self._source = _Source(file, proceed)
        self._container = _opened(self._source, field, [_MP4] if self._is_mp4(file) else _CONTAINERS)
        self._name = self._container.format.name
        self._next: int | None = None
        """Where the next packet must begin, in the unit of its time stamps."""
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
        decoded, seconds, damaged = 0, 0.0, 0.0
        try:
            for packet in self._packets():
                frames = self._decoded(packet)
                damaged += self._gap(packet) + (_length(packet) if frames is None else 0)
                if damaged > (0 if self._lossless else _TOLERATED_SECONDS + _TOLERATED_SHARE * seconds):
                    raise self._broken(seconds)
                for frame in frames or ():
                    self._check_frame(frame)
                    decoded, seconds = decoded + frame.samples, seconds + frame.samples / frame.sample_rate
                    yield frame
        except FFmpegError:
            raise self._broken(seconds) from None
        if decoded == 0:
            raise invalid(self._field, f"{self._field} has no audio that can be decoded")
        if decoded < self._expected_samples():
            raise self._broken(seconds)

    def _packets(self) -> "Iterator[Packet[AudioStream] | None]":
        """Yield the packets, at the end one that makes the decoder give what it still holds."""
        packets = self._container.demux(self._stream)
        while True:
            self._proceed()
            try:
                packet = next(packets, None)
            except FFmpegError:
                if self._name in _INDEXED or not self._source.at_end:
                    raise
                packet = None  # cut off in its last packet
            yield packet
            if packet is None:
                return

    def _gap(self, packet: "Packet[AudioStream] | None") -> float:
        """Return the seconds that are missing before a packet, where its container leaves no gaps."""
        if self._name not in _GAPLESS or packet is None or packet.pts is None:
            return 0.0
        expected, self._next = self._next, packet.pts + (packet.duration or 0)
        return 0.0 if expected is None else float(max(0, packet.pts - expected) * (packet.time_base or 0))

    @property
    def _lossless(self) -> bool:
        return self._stream.codec_context.name in _LOSSLESS

    def _is_mp4(self, file: ScratchFile) -> bool:
        """Whether it is an MP4 file, whose index then is not too large for memory."""
        if not is_mp4(file.read(0, 8)):
            return False
        most = math.ceil(self._limits.seconds * _INDEX_ENTRIES_PER_SECOND)
        if index_entries(file) > most:
            raise invalid(self._field, f"{self._field} has an index of more than {most} samples, or a compressed one")
        return True

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
        declared = self._declared_seconds()
        if (
            declared > self._limits.seconds and size > declared * self._bytes_per_second()
        ):  # else measured, not believed
            raise too_long(self._field, self._limits)
        if self._name in _INDEXED and (second := self._cut_at(size)) is not None:
            raise self._broken(second)
        context.thread_count = 1
        if self._lossless:
            context.options = {"err_detect": "crccheck+explode"}

    def _declared_seconds(self) -> float:
        stream = self._stream
        if stream.duration is None or stream.time_base is None:
            return (self._container.duration or 0) / av.time_base
        return float(stream.duration * stream.time_base)

    def _cut_at(self, size: int) -> float | None:
        """Return the second at which a file ends before its index does, None for a whole one."""
        entries = self._stream.index_entries
        if not len(entries) or entries[-1].pos + entries[-1].size <= size:
            return None
        first = next(entry for entry in entries if entry.pos + entry.size > size)
        return float(max(0, first.timestamp) * (self._stream.time_base or 0))

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

    def _decoded(self, packet: "Packet[AudioStream] | None") -> list[AudioFrame] | None:
        """Return the frames of a packet, None for a damaged one."""
        try:
            return self._stream.decode(packet)
        except FFmpegError:
            return None

    def _check_frame(self, frame: AudioFrame) -> None:
        check_rate(frame.sample_rate, self._field)
        check_channels(frame.layout.nb_channels, self._limits, self._field)

    def _broken(self, seconds: float) -> ServiceError:
        return invalid(self._field, f"{self._field} is truncated or broken after {seconds:.2f} seconds")


def too_long(field: str, limits: AudioLimits) -> ServiceError:
    """Return the error for audio past the limit of time."""
    return invalid(field, f"{field} is longer than {limits.seconds:g} seconds, which is the limit")


def _length(packet: "Packet[AudioStream] | None") -> float:
    if packet is None:
        return 0.0
    return float((packet.duration or 0) * (packet.time_base or 0)) or _USUAL_PACKET_SECONDS


class _Source:
    """What FFmpeg reads from. An exception ends its work."""

    def __init__(self, file: ScratchFile, proceed: Callable[[], None]) -> None:
        self._file, self._proceed, self._position = file, proceed, 0

    @property
    def at_end(self) -> bool:
        """Whether everything has been read."""
        return self._position >= self._file.size

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


def _opened(source: _Source, field: str, containers: Sequence[str]) -> InputContainer:
    options = {**_OPTIONS, "format_whitelist": ",".join(containers)}
    try:
        return av.open(source, "r", options=options, metadata_errors="replace", buffer_size=_BUFFER_BYTES)
    except FFmpegError:
        raise invalid(field, f"{field} is not a {_NAMES} file, or its header is broken") from None
