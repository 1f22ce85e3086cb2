"""The state file: which fleet runs here. Written by its supervisor, read by every other command."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

_CLOCK_STEP_SECONDS = 2.0


@dataclass(slots=True)
class ProcessState:
    """A process as it was last started; created is its start time, which tells it from a later one with its pid."""

    name: str
    host: str
    grpc_port: int
    http_port: int
    metrics_port: int | None = None
    pid: int | None = None
    created: float | None = None
    restarts: int = 0
    stopping: bool = False


@dataclass(slots=True)
class FleetState:
    """A fleet: its supervisor, its processes, and how its start went."""

    pid: int
    created: float
    processes: list[ProcessState] = field(default_factory=list)
    ready: bool = False
    problem: tuple[str, str] | None = None
    """Message and next step of a start that failed."""


_ADAPTER = TypeAdapter(FleetState)


def alive(pid: int | None, created: float | None) -> bool:
    """Say whether the process with this pid and start time still runs; a reused pid is another process."""
    if pid is None or created is None:
        return False
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < _CLOCK_STEP_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def created(pid: int) -> float | None:
    """Return the start time of a process, or None when it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


class StateFile:
    """`<state_dir>/fleet.json` and the lock beside it that one supervisor holds while it runs."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "fleet.json"
        self.logs = state_dir / "logs"

    def read(self) -> FleetState | None:
        """Return what was last written; a missing or damaged file is None."""
        try:
            return _ADAPTER.validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return None

    def running(self) -> FleetState | None:
        """Return the fleet whose supervisor is alive; what a dead one left behind is None."""
        state = self.read()
        return state if state and alive(state.pid, state.created) else None

    def write(self, state: FleetState) -> None:
        """Replace the file in one step, so that a reader never sees half of it."""
        new = self.path.with_suffix(".new")
        new.write_bytes(_ADAPTER.dump_json(state, indent=2))
        new.replace(self.path)

    def remove(self) -> None:
        """Forget the fleet."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock of this folder, or yield False when another supervisor does. It ends with the process."""
        self.logs.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(lock)
