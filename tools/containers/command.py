"""Other programs, run to their end: their output, or one clear line of why not."""

import os
import subprocess
from collections.abc import Mapping

from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem


def output(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints to standard output. Raises Problem with the last line of its errors."""
    try:
        done = subprocess.run(
            command,
            cwd=REPOSITORY_ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise Problem(f"there is no program {command[0]}", f"install {command[0]}") from None
    if done.returncode:
        said = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
        raise Problem(f"{' '.join(command[:4])} ... failed ({done.returncode}): {reason(said)}")
    return done.stdout


def quiet(*command: str) -> bool:
    """Whether a command can be run and ends well."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def reason(lines: list[str]) -> str:
    """Return the line that says why a command failed: the first that speaks of an error, else the last."""
    telling = [line.strip() for line in lines if "error" in line.lower() or "failed" in line.lower()]
    return (telling or [line.strip() for line in lines[-1:]] or ["it says nothing"])[0]
