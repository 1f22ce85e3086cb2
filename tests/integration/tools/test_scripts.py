"""The scripts of a checkout, as far as they go without creating an environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = sorted(
    path for path in [*(ROOT / "tools").iterdir(), ROOT / ".ci" / "run"] if path.is_file() and not path.suffix
)
OWN = ("bootstrap", "check", "check-kubernetes", "generate", "test")
OWN_HELP = [ROOT / "tools" / name for name in OWN] + [ROOT / ".ci" / "run"]


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd="/")


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "tools").mkdir()
    for name in ("pyproject.toml", "constraints.txt", "tools/bootstrap"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_is_executable_and_stops_at_the_first_error(script):
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert run("bash", "-n", script).returncode == 0


@pytest.mark.parametrize("script", OWN_HELP, ids=lambda script: script.name)
def test_help_needs_no_environment(script):
    answer = run(script, "--help")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("Usage: ")


def test_no_python_is_one_line_and_a_next_step(checkout):
    answer = run(checkout / "tools" / "bootstrap", FLOTILLA_PYTHON="/no/python")
    assert answer.returncode == 1
    error, next_step = answer.stderr.splitlines()
    assert error == "error: /no/python has no working CPython 3.11 or 3.12"
    assert "FLOTILLA_PYTHON" in next_step


def test_no_package_index_is_one_line_and_a_next_step_and_leaves_no_stamp(checkout):
    answer = run(
        checkout / "tools" / "bootstrap",
        FLOTILLA_PYTHON=sys.executable,
        PIP_CONFIG_FILE=os.devnull,
        PIP_FIND_LINKS="",
        PIP_NO_INDEX="1",
    )
    assert answer.returncode == 1
    error, next_step = answer.stderr.splitlines()[-2:]
    assert error.startswith("error: the package index has no pip==")
    assert "PIP_INDEX_URL" in next_step
    assert not (checkout / ".venv" / "flotilla-stamp").exists()


def test_an_unknown_option_is_refused(checkout):
    answer = run(checkout / "tools" / "bootstrap", "--devel")
    assert answer.returncode == 1
    assert "unknown option --devel" in answer.stderr
