"""One writer at a time: a lock file that says who holds it to those that wait."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tools.cli.console import Problem, console


@contextmanager
def writer_lock(path: Path, purpose: str) -> Iterator[None]:
    """Hold the lock file at `path`, made where there is none; waits for another holder and says what that one does.

    The kernel frees the lock of a process that dies. Problem where the filesystem has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _wait_for(file)
        _sign(file, purpose)
        yield


def _wait_for(file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        console.print(f"Waiting for another writer: {_holder(file)} ...", markup=False)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise Problem(
            f"the filesystem of the model store has no file locks ({error.strerror})",
            "set FLOTILLA_MODEL_STORE to a folder on a local disk",
        ) from error


def _sign(file: BinaryIO, purpose: str) -> None:
    """Write who holds the lock, for those that wait."""
    file.truncate(0)
    holder = {"process": os.getpid(), "host": socket.gethostname(), "purpose": purpose}
    file.write(json.dumps(holder | {"since": datetime.now(UTC).isoformat(timespec="seconds")}).encode())
    file.flush()


def _holder(file: BinaryIO) -> str:
    try:
        file.seek(0)
        holder = json.loads(file.read(4096))
        return f"process {holder['process']} on {holder['host']}, {holder['purpose']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # it has the lock and has not signed yet
        return "it has just begun"
