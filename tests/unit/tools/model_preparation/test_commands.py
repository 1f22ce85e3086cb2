import sys
import time
from pathlib import Path

import pytest

from tools.model_preparation.commands import DiskFullError, explain, run

HASHES = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
UNREACHABLE = "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError(...)': /simple/torch/"
ABSENT = "ERROR: No matching distribution found for torch==2.13.0"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HASHES], "wrong digest"),
        ([UNREACHABLE, ABSENT], "the package index cannot be reached"),
        ([ABSENT], "the package index does not offer it"),
        (["/usr/bin/python: No module named pip"], "no pip"),
        (["hello", "ERROR: something else", "tail"], "pip failed: something else"),
        ([], "no output"),
    ],
)
def test_failures_of_pip_are_one_line_with_a_next_step(lines: list[str], message: str) -> None:
    problem = explain(lines, "torch", Path("/store"))
    assert message in problem.message and "\n" not in problem.message and problem.next_step


@pytest.mark.parametrize(
    "line", ["OSError: [Errno 28] No space left on device", "ERROR: [Errno 122] Disk quota exceeded"]
)
def test_a_full_disk_is_recognised(line: str) -> None:
    assert isinstance(explain([line], "torch", Path("/store")), DiskFullError)


def test_lines_and_exit_code() -> None:
    seen: list[str] = []
    code, lines = run([sys.executable, "-c", "print('a'); print('b'); raise SystemExit(3)"], seen.append)
    assert code == 3 and lines == seen == ["a", "b"]


def test_an_interrupted_command_takes_its_children_along(tmp_path: Path) -> None:
    sleeper = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True); sys.stdin.read(); "
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", sleeper + "import time; time.sleep(600)"], interrupt)
    deadline = time.monotonic() + 30
    while is_running(pids[0]):
        assert time.monotonic() < deadline, "the child of the child lives on"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
