"""The header of a WAV file that comes in pieces, in front of live audio. Nothing but the header is kept."""

import struct
from typing import Final

from services.asr.sound.audio import Encoding
from services.common.errors import ServiceError, invalid

_HEAD_BYTES, _CHUNK_HEAD_BYTES, _FMT_BYTES = 12, 8, 16
_LONGEST_FMT = 1024
_UNKNOWN_SIZES: Final = (0, 0xFFFFFFFF)  # of encoders that cannot go back and fill it in
_EXTENSIBLE, _SUBFORMAT = 0xFFFE, slice(24, 26)
_ENCODINGS: Final = {
    (1, 16): Encoding.PCM_S16LE,
    (1, 8): Encoding.PCM_U8,
    (6, 8): Encoding.ALAW,
    (7, 8): Encoding.MULAW,
}
"""By format tag (RFC 2361) and bits of a sample."""


def is_wav(head: bytes) -> bool:
    """Whether data that begins with these 12 bytes is a WAV file."""
    return head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"


class WavHeader:
    """Takes the header off where there is one; data without passes through."""

    def __init__(self, field: str) -> None:
        """`field` is what the audio is called in errors."""
        self._field = field
        self._waiting = b""
        self._skip = 0
        self._inside = False
        self._left: int | None = None
        """Bytes of the samples that are still to come, None for no end."""
        self.decided = False
        """Whether it is known by now what stands in front of the samples."""
        self.found: tuple[Encoding, int, int] | None = None
        """Encoding, rate in Hz and channels of the header; None without one."""

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes of samples in the next piece. Raises INVALID_ARGUMENT for a header that is no use."""
        if not self.decided:
            self._waiting += piece
            self._read_header()
            if not self.decided:
                return b""
            piece, self._waiting = self._waiting, b""
        if self._left is None:
            return piece
        samples = piece[: self._left]
        self._left -= len(samples)
        return samples

    def finish(self) -> bytes:
        """Return the bytes that were held back because they could have been a header."""
        rest, self._waiting = self._waiting, b""
        return b"" if self._inside else rest

    def _read_header(self) -> None:
        if not self._inside:
            head = self._waiting[:_HEAD_BYTES]
            if not (b"RIFF".startswith(head[:4]) or b"RF64".startswith(head[:4])):
                self.decided = True
            elif len(head) == _HEAD_BYTES:
                self._inside, self.decided = is_wav(head), not is_wav(head)
                self._waiting = self._waiting[_HEAD_BYTES if self._inside else 0 :]
        while self._inside and not self.decided and self._next_chunk():
            pass

    def _next_chunk(self) -> bool:
        """Take the next chunk; whether there may be another."""
        skipped = self._waiting[: self._skip]
        self._skip, self._waiting = self._skip - len(skipped), self._waiting[len(skipped) :]
        if self._skip or len(self._waiting) < _CHUNK_HEAD_BYTES:
            return False
        name, size = struct.unpack_from("<4sI", self._waiting)
        if name == b"data":
            self._waiting = self._waiting[_CHUNK_HEAD_BYTES:]
            self._left, self.decided = None if size in _UNKNOWN_SIZES else size, True
            if self.found is None:
                raise self._useless("says nothing of its format")
            return False
        if name == b"fmt ":
            return self._format(size)
        self._skip = _CHUNK_HEAD_BYTES + size + size % 2
        return True

    def _format(self, size: int) -> bool:
        if not _FMT_BYTES <= size <= _LONGEST_FMT:
            raise self._useless("is broken")
        body = self._waiting[_CHUNK_HEAD_BYTES : _CHUNK_HEAD_BYTES + size]
        if len(body) < size:
            return False
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
        if tag == _EXTENSIBLE:
            tag = int.from_bytes(body[_SUBFORMAT], "little")
        encoding = _ENCODINGS.get((tag, bits))
        if encoding is None:
            raise self._useless(f"has {bits}-bit samples of format {tag}; 16 or 8-bit PCM, A-law or mu-law can be read")
        self.found = encoding, rate, channels
        self._skip = _CHUNK_HEAD_BYTES + size + size % 2
        return True

    def _useless(self, why: str) -> ServiceError:
        return invalid(self._field, f"{self._field}: the WAV header {why}")
