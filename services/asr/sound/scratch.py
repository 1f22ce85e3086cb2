"""A scratch file: bytes on disk that no name leads to, gone with the process. Knows nothing of audio."""

import errno
import os
import tempfile
from pathlib import Path
from types import TracebackType

from services.common.errors import Kind, ServiceError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RETRY_AFTER = 10.0


class ScratchFile:
    """Written at its end and read by position. Reading may go on in several threads while nobody writes."""

    def __init__(self, directory: Path) -> None:
        """Make the file in `directory`, which is made too. Raises ServiceError where the disk is full or not ours."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - `close` closes it
        except OSError as error:
            raise _fault(error) from error
        self.size = 0

    def __enter__(self) -> "ScratchFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at the end. Raises RESOURCE_EXHAUSTED when the disk is full."""
        rest = memoryview(data).cast("B")
        try:
            while rest:
                written = os.pwrite(self._file.fileno(), rest, self.size)
                rest, self.size = rest[written:], self.size + written
        except OSError as error:
            raise _fault(error) from error

    def read(self, position: int, size: int) -> bytes:
        """Return up to `size` bytes from `position`; fewer only at the end of the file."""
        pieces = []
        while size > 0 and (piece := os.pread(self._file.fileno(), size, position)):
            pieces.append(piece)
            position, size = position + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Free the space; more than once does no harm."""
        self._file.close()


def _fault(error: OSError) -> ServiceError:
    if error.errno in _NO_SPACE:
        message = "the service has no disk space left for this audio; try again later"
        return ServiceError(Kind.OVERLOADED, message, retry_after=_RETRY_AFTER)
    return ServiceError(Kind.INTERNAL, f"the service cannot write its temporary files ({error.strerror})")
