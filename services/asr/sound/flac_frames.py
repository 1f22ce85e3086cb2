"""Where the frames of a FLAC stream begin and end (RFC 9639, section 9). Decodes nothing.

FFmpeg's own parser waits for ten frames before it gives the first, seconds of sound. Here a frame ends where a header
follows that has the right checksum and the number that is next: less than one in 10^9 is there by chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_LONGEST_HEAD, _SHORTEST_FRAME = 16, 9
_BLOCK_SIZE_BYTES: Final = {6: 1, 7: 2}
_RATE_BYTES: Final = {12: 1, 13: 2, 14: 2}


class FlacError(Exception):
    """No frame begins, or ends, where one must."""


@dataclass(frozen=True, slots=True)
class _Head:
    fixed: bool
    number: int
    samples: int

    @property
    def next_number(self) -> int:
        return self.number + (1 if self.fixed else self.samples)


class FlacFrames:
    """Frames cut into pieces of any size; holds at most one frame and the beginning of the next."""

    def __init__(self, longest_frame: int) -> None:
        """Give up when a frame has more than `longest_frame` bytes."""
        self._longest = longest_frame
        self._data = b""
        self._head: _Head | None = None
        self._searched = _SHORTEST_FRAME

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the frames that are complete. Raises FlacError."""
        self._data += piece
        while end := self._end():
            frame, self._data = self._data[:end], self._data[end:]
            self._head, self._searched = None, _SHORTEST_FRAME
            yield frame
        if len(self._data) > self._longest + _LONGEST_HEAD:
            raise FlacError

    def finish(self) -> bytes:
        """Return the last frame, which may be cut off."""
        rest, self._data = self._data, b""
        return rest

    def _end(self) -> int:
        """Return where the frame ends that the data begins with, 0 while it is not known."""
        if len(self._data) < _LONGEST_HEAD:
            return 0
        if self._head is None:
            self._head = _read_head(self._data[:_LONGEST_HEAD])
            if self._head is None:
                raise FlacError
        sync = b"\xff\xf8" if self._head.fixed else b"\xff\xf9"
        while (at := self._data.find(sync, self._searched)) >= 0:
            if len(self._data) < at + _LONGEST_HEAD:
                self._searched = at
                return 0
            found = _read_head(self._data[at : at + _LONGEST_HEAD])
            if found is not None and found.number == self._head.next_number:
                return at
            self._searched = at + 1
        self._searched = max(self._searched, len(self._data) - 1)
        return 0


def _read_head(data: bytes) -> _Head | None:
    """Return the header that 16 bytes begin with, None for bytes that are none."""
    block_size, rate = data[2] >> 4, data[2] & 15
    if data[0] != 0xFF or data[1] & 0xFE != 0xF8 or block_size == 0 or rate == 15 or data[3] & 1:
        return None
    number_bytes = _leading_ones(data[4]) or 1
    if number_bytes == 8 or (number_bytes == 1 and data[4] & 0x80):
        return None
    at = 4 + number_bytes
    number = data[4] & (0x7F if number_bytes == 1 else 0x7F >> number_bytes)
    for byte in data[5:at]:
        number = number << 6 | byte & 0x3F
    extra = _BLOCK_SIZE_BYTES.get(block_size, 0)
    samples = _samples(block_size, data[at : at + extra])
    at += extra + _RATE_BYTES.get(rate, 0)
    return _Head(data[1] & 1 == 0, number, samples) if _checksum(data[:at]) == data[at] else None


def _leading_ones(byte: int) -> int:
    return 8 - (byte ^ 0xFF).bit_length()


def _samples(code: int, extra: bytes) -> int:
    if extra:
        return int.from_bytes(extra, "big") + 1
    if code == 1:
        return 192
    return 576 << code - 2 if code <= 5 else 256 << code - 8


def _checksum(data: bytes) -> int:
    """Return the CRC-8 of polynomial 0x07, most significant bit first."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc
