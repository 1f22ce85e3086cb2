"""Child processes and pip: output line by line, and failures in one clear line."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.cli.console import Problem

OFFLINE_HELP = (
    "check the network and `pip config list` (index, proxy); "
    "or bring ready-made artifacts: tools/models import MODEL FOLDER"
)
_UNREACHABLE = (
    "connection broken by",
    "NewConnectionError",
    "Max retries exceeded",
    "Temporary failure in name resolution",
    "ProxyError",
    "ConnectTimeout",
    "ReadTimeoutError",
    "SSLError",
)


class DiskFullError(Problem):
    """No room on the disk; trying another source does not help."""

    def __init__(self, place: Path | str) -> None:
        super().__init__(
            f"the disk of {place} is full",
            "free some space, or set FLOTILLA_MODEL_STORE to a folder on a larger disk, and run the command again",
        )


def run(
    command: Sequence[str | Path], on_line: Callable[[str], None], cwd: Path | None = None
) -> tuple[int, list[str]]:
    """Run a command, hand over each line it prints, return its exit code and all lines. It never outlives us."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # so that pip's own children end with it
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None  # noqa: S101 - asked for with PIPE
        for line in process.stdout:
            lines.append(line.rstrip())
            on_line(lines[-1].strip())
        return process.wait(), lines
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def pip(
    arguments: Sequence[str | Path],
    what: str,
    scratch: Path,
    on_line: Callable[[str], None],
    target: Path | None = None,
) -> None:
    """Run pip, for the environment of the interpreter `target` or our own; Problem says what failed."""
    scratch.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = ["env", f"TMPDIR={scratch}", sys.executable, "-m", "pip"]
    command += ["--python", target] if target else []
    command += ["--disable-pip-version-check", "--no-input", "--retries", "2", *arguments]
    code, lines = run(command, on_line)
    if code != 0:
        raise explain(lines, what, scratch)


def explain(lines: Sequence[str], what: str, place: Path) -> Problem:
    """Turn pip's output after a failure into one line and a next step."""
    text = "\n".join(lines)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return DiskFullError(place)
    if "DO NOT MATCH THE HASHES" in text:
        return Problem(
            f"{what}: the download has a wrong digest and was refused",
            "a proxy or mirror may alter it: look at `pip config list`; then run the command again",
        )
    if any(mark in text for mark in _UNREACHABLE):
        return Problem(f"{what}: the package index cannot be reached", OFFLINE_HELP)
    if "No module named pip" in text:
        return Problem(f"{what}: this environment has no pip", "run: tools/bootstrap")
    if "No matching distribution found" in text or "Could not find a version" in text:
        return Problem(f"{what}: the package index does not offer it", OFFLINE_HELP)
    errors = [line for line in lines if line.startswith("ERROR:")] or [line for line in lines if line] or ["no output"]
    return Problem(f"{what}: pip failed: {errors[-1].removeprefix('ERROR: ')}", OFFLINE_HELP)
