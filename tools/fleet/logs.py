"""The log files of the processes: a fresh one per start, and the line in it that says why a process ended."""

import json
from pathlib import Path

_TAIL_BYTES = 64 * 1024
_SEVERE = ("ERROR", "CRITICAL", "FATAL")


def log_path(logs: Path, name: str) -> Path:
    """Return where the output of a process goes."""
    return logs / f"{name}.log"


def rotate(path: Path) -> None:
    """Keep the last start's log as .1 and begin anew."""
    if path.exists():
        path.replace(path.with_suffix(".log.1"))


def last_error(path: Path) -> str:
    """Return the message of the last error in a log of JSON or plain lines, or its last line."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    severe = (message for line in reversed(lines) if (message := _severe_message(line)))
    return next(severe, lines[-1] if lines else "")[:300]


def _severe_message(line: str) -> str | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    level = str(record.get("level") or record.get("levelname") or record.get("severity")).upper()
    message = str(record.get("message") or record.get("msg") or "")
    return message.splitlines()[0] if level in _SEVERE and message else None
