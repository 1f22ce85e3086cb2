"""One compose project of this checkout: a name, variables and override files of its own."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.containers.command import output, reason


@dataclass(frozen=True, slots=True)
class Compose:
    """Runs `docker compose` for one project."""

    command: Sequence[str]
    project: str = "flotilla"
    variables: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[Path] = ()

    def __call__(self, *arguments: str) -> str:
        """Run compose and return what it prints. Raises Problem."""
        return output(*self._command(arguments), environment=self.variables)

    def show(self, *arguments: str) -> None:
        """Run compose with its output going where ours goes. Raises Problem."""
        done = subprocess.run(
            self._command(arguments),
            cwd=REPOSITORY_ROOT,
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise Problem(f"docker compose {arguments[0]} failed ({done.returncode})", "the lines above say why")

    def fails(self, *arguments: str) -> str:
        """Run compose, which must fail, and return the line that says why. Raises Problem where it does not."""
        done = subprocess.run(
            self._command(arguments),
            cwd=REPOSITORY_ROOT,
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            raise Problem(f"docker compose {' '.join(arguments)} should have failed")
        return reason((done.stderr + done.stdout).splitlines())

    def containers(self) -> list[dict[str, Any]]:
        """Return the containers of the project, stopped ones too, as `docker compose ps` describes them."""
        lines = self("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def memory_mib(self) -> dict[str, float]:
        """Return the memory that each running container uses, in MiB, by service."""
        names = {one["Name"]: one["Service"] for one in self.containers() if one["State"] == "running"}
        lines = output("docker", "stats", "--no-stream", "--format", "{{.Name}}\t{{.MemUsage}}", *names).splitlines()
        rows = [line.split("\t") for line in lines]
        return {names[name]: _mib(usage.split("/")[0].strip()) for name, usage in rows}

    def _command(self, arguments: Sequence[str]) -> list[str]:
        files = [str(REPOSITORY_ROOT / "compose.yaml"), *map(str, self.overrides)]
        options = [part for file in files for part in ("--file", file)]
        return [*self.command, "--project-name", self.project, "--progress", "plain", *options, *arguments]


def _mib(text: str) -> float:
    for unit, factor in (("GiB", 1024.0), ("MiB", 1.0), ("KiB", 1 / 1024), ("B", 1 / 1048576)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)
