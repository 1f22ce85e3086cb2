"""How many entries the index of an MP4 file will have, counted before anything opens the file.

The sample tables of ISO/IEC 14496-12 give a number of samples that no table need back up: a file of 20 kB can make a
demuxer allocate gigabytes. Their boxes are looked for wherever a demuxer may parse, which is all but the media data.
"""

import struct
from collections.abc import Iterator
from typing import Final

from services.asr.sound.scratch import ScratchFile

_FIRST_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"sidx", b"uuid")
_HEAD_BYTES, _LONG_HEAD_BYTES = 8, 16
_SEARCH_BYTES, _OVERLAP = 1024 * 1024, 16
_COUNT_AT: Final = {b"stsz": 12, b"stz2": 12, b"trun": 8}
"""Where the number of samples is, from the name of the box on (sections 8.7.3 and 8.8.8)."""
_COMPRESSED: Final = b"cmov"
COMPRESSED: Final = 2**32
"""The count of a file whose index is compressed, which could be any."""


def is_mp4(head: bytes) -> bool:
    """Whether data that begins with these 8 bytes is an MP4, M4A or QuickTime file."""
    return head[4:8] in _FIRST_BOXES


def index_entries(file: ScratchFile) -> int:
    """Return the samples that the tables of all tracks announce."""
    return sum(_announced(file, start, stop) for start, stop in _parsed_parts(file))


def _parsed_parts(file: ScratchFile) -> Iterator[tuple[int, int]]:
    """Yield where everything but the media data lies."""
    at = 0
    while at < file.size:
        head = file.read(at, _LONG_HEAD_BYTES)
        size, name = struct.unpack(">I4s", head[:_HEAD_BYTES].ljust(_HEAD_BYTES, b"\0"))
        if size == 1 and len(head) == _LONG_HEAD_BYTES:
            size = int.from_bytes(head[_HEAD_BYTES:], "big")
        if size < _HEAD_BYTES:
            size = file.size - at
        if name != b"mdat":
            yield at, min(at + size, file.size)
        at += size


def _announced(file: ScratchFile, start: int, stop: int) -> int:
    total = 0
    for at in range(start, stop, _SEARCH_BYTES):
        piece = file.read(at, min(_SEARCH_BYTES + _OVERLAP, stop - at))
        if piece.find(_COMPRESSED, 0, _SEARCH_BYTES + len(_COMPRESSED) - 1) >= 0:
            return COMPRESSED
        for name, count_at in _COUNT_AT.items():
            found = piece.find(name)
            while 0 <= found < _SEARCH_BYTES:
                total += int.from_bytes(piece[found + count_at : found + count_at + 4], "big")
                found = piece.find(name, found + 1)
    return total
