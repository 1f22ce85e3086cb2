"""A process in another environment: a request as JSON in, facts as JSON out, failures in one clear line."""

import json
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.settings import REPOSITORY_ROOT
from services.common.tether import tethered
from tools.cli.console import Problem
from tools.export.command import REFUSED
from tools.model_preparation.commands import DiskFullError, run

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Child:
    """A module of ours run by an interpreter of another environment. It dies with us, and may crash without us."""

    name: str
    """What messages call it."""
    interpreter: Path
    module: str
    scratch: Path

    def ask(self, action: str, request: Mapping[str, Any], show: Show) -> dict[str, Any]:
        """Run one action to its end and return its facts; `show` gets each line it prints. Problem when it fails."""
        asked, answer = self.scratch / f"{action}.request.json", self.scratch / f"{action}.facts.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        environment = ["-u", "PYTHONHOME", f"PYTHONPATH={REPOSITORY_ROOT}", "PYTHONDONTWRITEBYTECODE=1"]
        command = [str(self.interpreter), "-P", "-m", self.module, action, str(asked), str(answer)]
        words = tethered(signal.SIGKILL, shutil.which("env") or "/usr/bin/env", *environment, *command)
        code, lines = run(words, show, cwd=REPOSITORY_ROOT)
        if code == 0:
            return dict(json.loads(answer.read_text(encoding="utf-8")))
        raise self._failure(action, code, [line for line in lines if line.strip()])

    def _failure(self, action: str, code: int, lines: Sequence[str]) -> Problem:
        if any("No space left on device" in line for line in lines):
            return DiskFullError(self.scratch)
        if code == REFUSED:
            return Problem(f"{self.name}: {lines[-1].strip()}", "nothing was published; docs/engines.md explains it")
        if code < 0 or code > 128:
            died = f"{self.name} died of signal {-code if code < 0 else code - 128} during {action}"
            return Problem(f"{died}: out of main memory, or a fault of its own", "nothing was published; try again")
        return Problem(f"{self.name}: {action} failed: {lines[-1] if lines else code}", "nothing was published")
