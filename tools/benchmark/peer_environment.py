"""Environments of their own for the peers that a benchmark runs beside the fleet. They are kept."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem


async def environment(
    venv: Path, requirements: Sequence[str], say: Callable[[str], None], unwanted: Sequence[str] = ()
) -> Path:
    """Return the interpreter of the environment `venv` with the requirements, made when it is not there.

    Packages that come with them and are `unwanted` are taken out again.
    """
    python, done = venv / "bin" / "python", venv / "complete"
    if done.exists():
        return python
    say(f"installing {requirements[0]} into an environment of its own (minutes)")
    await _run(sys.executable, "-m", "venv", "--clear", str(venv))
    await _run(str(python), "-m", "pip", "install", "--quiet", *requirements)
    if unwanted:
        await _run(str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted)
    done.touch()
    return python


def pinned(package: str) -> str:
    """Return the version of a package in constraints.txt."""
    lines = (REPOSITORY_ROOT / "constraints.txt").read_text().splitlines()
    return next(line.partition("==")[2].split()[0] for line in lines if line.startswith(f"{package}=="))


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    if process.returncode:
        reason = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise Problem(f"{' '.join(command[:4])}: {' '.join(reason)}", "run without --peer")
