"""A FLAC stream to decoded frames as it comes in (RFC 9639)."""

from collections.abc import Iterator
from typing import Final

from av import AudioCodecContext, AudioFrame, Packet
from av.error import FFmpegError
from av.stream import Stream

from services.asr.sound.audio import AudioLimits, check_channels, check_rate
from services.asr.sound.codec import open_decoder
from services.asr.sound.flac_frames import FlacError, FlacFrames
from services.common.errors import ServiceError, invalid

_MAGIC: Final = b"fLaC"
_STREAMINFO, _STREAMINFO_BYTES, _BLOCK_HEAD_BYTES = 0, 34, 4
_FIRST_BYTES: Final = len(_MAGIC) + _BLOCK_HEAD_BYTES + _STREAMINFO_BYTES
_FRAME_SPARE = 256


class FlacStream:
    """Metadata is passed over; every frame is decoded when the next one begins."""

    def __init__(self, field: str, limits: AudioLimits) -> None:
        """`field` is what the audio is called in errors."""
        self._field, self._limits = field, limits
        self._head = b""
        self._skip = 0
        self._last_block = False
        self._decoder: AudioCodecContext | None = None
        self._frames: FlacFrames | None = None

    def feed(self, piece: bytes) -> Iterator[AudioFrame]:
        """Yield what the next piece brings. Raises INVALID_ARGUMENT."""
        if self._frames is None or not self._past_metadata:
            piece = self._read_metadata(piece)
        if self._frames is None or not self._past_metadata:
            return
        try:
            for frame in self._frames.feed(piece):
                yield from self._decoded(Packet(frame))
        except FlacError:
            raise self._broken() from None

    def finish(self) -> Iterator[AudioFrame]:
        """Yield the last frame. Raises INVALID_ARGUMENT when it is cut off."""
        if self._head or self._skip or (self._frames is not None and not self._past_metadata):
            raise self._broken()
        if self._frames is not None and (rest := self._frames.finish()):
            yield from self._decoded(Packet(rest))
        if self._decoder is not None:
            yield from self._decoded(None)

    @property
    def _past_metadata(self) -> bool:
        return self._last_block and self._skip == 0

    def _read_metadata(self, piece: bytes) -> bytes:
        """Take the metadata off and return what comes behind it."""
        data, self._head = self._head + piece, b""
        if self._frames is None:
            if not _MAGIC.startswith(data[: len(_MAGIC)]):
                raise self._broken()
            if len(data) < _FIRST_BYTES:
                self._head = data
                return b""
            self._begin(data[len(_MAGIC) : _FIRST_BYTES])
            data = data[_FIRST_BYTES:]
        while data and not self._past_metadata:
            if self._skip:
                skipped = min(self._skip, len(data))
                self._skip, data = self._skip - skipped, data[skipped:]
            elif len(data) < _BLOCK_HEAD_BYTES:
                self._head, data = data, b""
            else:
                self._last_block = bool(data[0] & 0x80)
                self._skip, data = int.from_bytes(data[1:4], "big"), data[_BLOCK_HEAD_BYTES:]
        return data

    def _begin(self, block: bytes) -> None:
        """Read STREAMINFO (section 8.2), which every stream begins with."""
        if block[0] & 0x7F != _STREAMINFO or int.from_bytes(block[1:4], "big") != _STREAMINFO_BYTES:
            raise self._broken()
        self._last_block = bool(block[0] & 0x80)
        info = block[_BLOCK_HEAD_BYTES:]
        rate = int.from_bytes(info[10:13], "big") >> 4
        channels = (info[12] >> 1 & 7) + 1
        sample_bytes = ((info[12] & 1) << 4 | info[13] >> 4) // 8 + 2
        check_rate(rate, self._field)
        check_channels(channels, self._limits, self._field)
        self._frames = FlacFrames(int.from_bytes(info[2:4], "big") * channels * sample_bytes + _FRAME_SPARE)
        try:
            self._decoder = open_decoder("flac", info)
        except FFmpegError:
            raise self._broken() from None

    def _decoded(self, packet: "Packet[Stream] | None") -> Iterator[AudioFrame]:
        if self._decoder is None:
            return
        try:
            yield from self._decoder.decode(packet)
        except FFmpegError:
            raise self._broken() from None

    def _broken(self) -> ServiceError:
        return invalid(self._field, f"{self._field} is not a FLAC stream, or broken")
