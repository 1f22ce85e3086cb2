"""Processes in other environments: what they say arrives, and every way to fail is one line."""

import sys
from pathlib import Path

import pytest

from tools.cli.console import Problem
from tools.engines.builders import open_builder
from tools.engines.child import Child
from tools.model_preparation.commands import DiskFullError

SPEAKING = """
import json, pathlib, sys
print("half way", flush=True)
request = json.loads(pathlib.Path(sys.argv[2]).read_text())
{body}
pathlib.Path(sys.argv[3]).write_text(json.dumps({{"action": sys.argv[1], **request}}))
"""


def child(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str = "") -> Child:
    """Return a child whose module does `body` before it answers."""
    (folder / "speaking.py").write_text(SPEAKING.format(body=body))
    monkeypatch.setattr("tools.engines.child.REPOSITORY_ROOT", folder)
    return Child("the tool", Path(sys.executable), "speaking", folder)


def test_facts_and_progress_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    assert child(tmp_path, monkeypatch).ask("build", {"a": 1}, lines.append) == {"action": "build", "a": 1}
    assert lines == ["half way"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('operator Foo is not supported', file=sys.stderr); sys.exit(3)", "the tool: operator Foo is not"),
        ("raise KeyError('x')", "the tool: build failed: KeyError: 'x'"),
        ("import os; os.kill(os.getpid(), 9)", "the tool died of signal 9 during build: out of main memory"),
        ("import os; os.abort()", "the tool died of signal 6 during build"),
    ],
    ids=["refused", "raised", "killed", "aborted"],
)
def test_each_failure_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str) -> None:
    with pytest.raises(Problem) as raised:
        child(tmp_path, monkeypatch, body).ask("build", {}, lambda _line: None)
    assert raised.value.message.startswith(message) and "\n" not in raised.value.message


def test_a_full_disk_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = child(tmp_path, monkeypatch, "raise OSError(28, 'No space left on device')")
    with pytest.raises(DiskFullError):
        full.ask("build", {}, lambda _line: None)


def test_an_interpreter_that_lacks_the_builder_is_told(tmp_path: Path) -> None:
    def interpreter(_extra: str) -> Path:
        return Path(sys.executable)

    with pytest.raises(Problem, match="this environment has no module tensorrt_rtx or tensorrt_rtx_bindings"):
        open_builder("tensorrt-rtx", None, interpreter, tmp_path)
    with pytest.raises(Problem, match="is no interpreter that can be run"):
        open_builder("tensorrt", tmp_path / "none", interpreter, tmp_path)
    with pytest.raises(Problem, match="unknown builder 'openvino'"):
        open_builder("openvino", None, interpreter, tmp_path)
