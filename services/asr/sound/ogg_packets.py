"""OGG pages to packets as they come in (RFC 3533). Knows no codec."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"OggS"
_HEAD: Final = struct.Struct("<4sBBqIIIB")
_CHECKSUM = slice(22, 26)
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_FULL = 255
_LONGEST_PACKET = 1024 * 1024
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class OggError(Exception):
    """The data is no OGG stream, or a broken one."""


@dataclass(frozen=True, slots=True)
class OggPage:
    """The packets that end on a page."""

    serial: int
    """Which of the streams that are mixed it belongs to."""
    first: bool
    last: bool
    position: int
    """Where the stream is after this page, in the codec's own unit; -1 when no packet ends on it."""
    packets: list[bytes]


class OggPackets:
    """One OGG stream, cut into pieces of any size. Holds at most a page, and an unfinished packet per stream."""

    def __init__(self) -> None:
        self._data = b""
        self._unfinished: dict[int, bytes] = {}

    def feed(self, piece: bytes) -> Iterator[OggPage]:
        """Yield the pages that are complete. Raises OggError."""
        self._data += piece
        while (size := self._page_size()) and len(self._data) >= size:
            page, self._data = self._data[:size], self._data[size:]
            yield self._page(page)

    def _page_size(self) -> int:
        """Return the size of the page the data begins with, 0 while it is not known."""
        if not _MAGIC.startswith(self._data[: len(_MAGIC)]):
            raise OggError("no page begins where one must")
        if len(self._data) < _HEAD.size:
            return 0
        segments = self._data[_HEAD.size - 1]
        table = self._data[_HEAD.size : _HEAD.size + segments]
        return _HEAD.size + segments + sum(table) if len(table) == segments else 0

    def _page(self, page: bytes) -> OggPage:
        _, version, flags, position, serial, _, checksum, segments = _HEAD.unpack_from(page)
        if version != 0 or _checksum(page) != checksum:
            raise OggError("the checksum of a page is wrong")
        packets, begun = self._packets(page, segments, self._unfinished.pop(serial, b"") if flags & _CONTINUED else b"")
        if begun is not None:
            self._unfinished[serial] = begun
        if flags & _LAST:
            self._unfinished.pop(serial, None)
        if len(self._unfinished) > 8 or len(begun or b"") > _LONGEST_PACKET:
            raise OggError("too much of it is unfinished")
        return OggPage(serial, bool(flags & _FIRST), bool(flags & _LAST), position, packets)

    def _packets(self, page: bytes, segments: int, packet: bytes) -> tuple[list[bytes], bytes | None]:
        """Return the packets that end on the page, and what begins on it, None for nothing."""
        packets: list[bytes] = []
        at, size = _HEAD.size + segments, _FULL
        for size in page[_HEAD.size : _HEAD.size + segments]:
            packet, at = packet + page[at : at + size], at + size
            if size < _FULL:
                packets.append(packet)
                packet = b""
        return packets, packet if size == _FULL else None


def _checksum(page: bytes) -> int:
    """Return the page's CRC-32: polynomial 0x04c11db7, most significant bit first, so zlib's of the bits reversed."""
    zeroed = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    reversed_crc = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reversed_crc.to_bytes(4, "little").translate(_REVERSED), "big")
