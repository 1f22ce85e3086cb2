"""A file as it comes in, kept on disk: memory stays small whatever its size."""

from pathlib import Path
from types import TracebackType

from services.asr.sound.scratch import ScratchFile
from services.asr.thread_work import run_to_end
from services.common.errors import ServiceError, invalid

_WRITE_BYTES = 1024 * 1024


class Spool:
    """An async context; pieces are written in order and read by position once `flush` has returned."""

    def __init__(self, directory: Path, limit: int, field: str) -> None:
        """Keep up to `limit` bytes in `directory`; `field` is what the audio is called in errors."""
        self.directory, self.field, self._limit = directory, field, limit
        self._waiting = bytearray()
        self._file: ScratchFile | None = None
        self.size = 0
        """Bytes so far."""

    async def __aenter__(self) -> "Spool":
        self._file = await run_to_end(lambda: ScratchFile(self.directory), dispose=ScratchFile.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()
        if self._file is not None:
            await run_to_end(self._file.close)

    async def write(self, piece: bytes) -> None:
        """Append a piece. Raises INVALID_ARGUMENT past the limit and RESOURCE_EXHAUSTED when the disk is full."""
        if self.size + len(piece) > self._limit:
            raise too_large(self.field, self._limit)
        self.size += len(piece)
        self._waiting += piece
        if len(self._waiting) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Return when everything is in the file. Raises RESOURCE_EXHAUSTED when the disk is full."""
        if self._waiting:
            data, self._waiting = self._waiting, bytearray()
            await run_to_end(lambda: self.file.append(data))

    @property
    def file(self) -> ScratchFile:
        """Where the bytes are."""
        if self._file is None:
            raise RuntimeError("the spool is not open")
        return self._file


def too_large(field: str, limit: int) -> ServiceError:
    """Return the error for audio of more than `limit` bytes."""
    return invalid(field, f"{field} has more than {limit} bytes, which is the limit")
