"""An OGG stream with Opus to frames as it comes in (RFC 7845)."""

from collections.abc import Iterator

from av import AudioFrame, Packet
from av.audio.fifo import AudioFifo
from av.error import FFmpegError

from services.asr.sound.audio import AudioLimits, check_channels
from services.asr.sound.codec import open_decoder
from services.asr.sound.ogg_packets import OggError, OggPackets, OggPage
from services.common.errors import ServiceError, invalid

_HEAD, _TAGS = b"OpusHead", b"OpusTags"
_CHANNELS, _PRE_SKIP = 9, slice(10, 12)
_HEAD_BYTES = 19


class OpusStream:
    """Links of a chain follow each other; other streams among the pages are passed over."""

    def __init__(self, field: str, limits: AudioLimits) -> None:
        """`field` is what the audio is called in errors."""
        self._field, self._limits = field, limits
        self._pages = OggPackets()
        self._link: _Link | None = None

    def feed(self, piece: bytes) -> Iterator[AudioFrame]:
        """Yield what the next piece brings. Raises INVALID_ARGUMENT."""
        try:
            for page in self._pages.feed(piece):
                yield from self._read(page)
        except (OggError, FFmpegError) as error:
            why = str(error) if isinstance(error, OggError) else "an Opus packet cannot be decoded"
            raise self._broken(why) from None

    def finish(self) -> Iterator[AudioFrame]:
        """Yield what the decoder still held."""
        link, self._link = self._link, None
        if link is not None:
            yield from link.finish()

    def _read(self, page: OggPage) -> Iterator[AudioFrame]:
        packets = page.packets
        if page.first and packets and packets[0].startswith(_HEAD):
            yield from self.finish()
            self._link, packets = self._begin(page.serial, packets[0]), packets[1:]
        elif page.first and self._link is None and packets:
            self._foreign(packets[0])
        if self._link is not None and page.serial == self._link.serial:
            yield from self._link.read(packets, page)

    def _begin(self, serial: int, head: bytes) -> "_Link":
        if len(head) < _HEAD_BYTES:
            raise self._broken("its header is too short")
        check_channels(head[_CHANNELS], self._limits, self._field)
        return _Link(serial, head)

    def _foreign(self, packet: bytes) -> None:
        if packet.startswith((b"\x01vorbis", b"\x7fFLAC", b"Speex")):
            raise self._broken("it holds another codec")

    def _broken(self, why: str) -> ServiceError:
        return invalid(self._field, f"{self._field} is not an OGG stream with Opus, or broken: {why}")


class _Link:
    """One Opus stream from its header to its end."""

    def __init__(self, serial: int, head: bytes) -> None:
        self.serial = serial
        self._decoder = open_decoder("opus", head)
        self._decoded = int.from_bytes(head[_PRE_SKIP], "little")  # positions count what the decoder skips
        self._start: int | None = None
        """Position of the first sample: a stream that is joined late does not begin at 0."""
        self._end: int | None = None

    def read(self, packets: list[bytes], page: OggPage) -> Iterator[AudioFrame]:
        """Yield the sound of a page's packets."""
        if page.last and page.position >= 0:
            self._end = page.position - (self._start or 0)
        for packet in packets:
            if not packet or packet.startswith(_TAGS):
                continue
            yield from self._trimmed(self._decoder.decode(Packet(packet)))
        if self._start is None and self._decoded and page.position >= 0:
            self._start = max(0, page.position - self._decoded)

    def finish(self) -> Iterator[AudioFrame]:
        """Yield what the decoder still held."""
        yield from self._trimmed(self._decoder.decode(None))

    def _trimmed(self, frames: list[AudioFrame]) -> Iterator[AudioFrame]:
        """Yield the frames without what stands after the end."""
        for frame in frames:
            left = frame.samples if self._end is None else max(0, self._end - self._decoded)
            self._decoded += frame.samples
            if left >= frame.samples:
                yield frame
            elif left and (part := _beginning(frame, left)):
                yield part


def _beginning(frame: AudioFrame, length: int) -> AudioFrame | None:
    fifo, frame.pts = AudioFifo(), None
    fifo.write(frame)
    return fifo.read(length)
