"""A builder seen from outside: an interpreter that has TensorRT or TensorRT-RTX, and what it is asked to do there."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from services.common.engines import TENSORRT, TENSORRT_RTX
from tools.cli.console import Problem
from tools.engines.child import Child, Show
from tools.engines.precision import Interpreter
from tools.engines.tensorrt import MODULES, BuildRequest
from tools.engines.tensorrt_runtime import RunRequest
from tools.model_preparation.commands import run
from tools.model_preparation.progress import step

BUILDERS = (TENSORRT, TENSORRT_RTX)
RTX_EXTRA = "engines-tensorrt-rtx"
PLAN_FILE = {TENSORRT: "model.plan", TENSORRT_RTX: "model.tensorrt-rtx.engine"}
"""What an engine's file is called: Triton takes the first; the second is no plan, and its name says so."""


class Builder(Protocol):
    """What makes an engine of a graph."""

    name: str

    def version(self) -> str:
        """Return name and version, "tensorrt 11.4.0.1"."""

    def build(self, request: BuildRequest, show: Show) -> dict[str, Any]:
        """Build, and return facts. Problem when there is no engine to be had."""

    def run(self, request: RunRequest, show: Show) -> dict[str, Any]:
        """Run an engine on this machine's GPU, and return timings. Problem when that cannot be done."""


@dataclass(slots=True)
class EnvironmentBuilder:
    """A builder in an environment of its own, one process for each request: a crash there ends in one line here."""

    name: str
    interpreter: Path
    scratch: Path
    _version: str = ""

    def version(self) -> str:
        """See Builder."""
        if not self._version:
            self._version = str(self._ask("version", {"builder": self.name}, lambda _line: None)["builder"])
        return self._version

    def build(self, request: BuildRequest, show: Show) -> dict[str, Any]:
        """See Builder."""
        return self._ask("build", asdict(request), show)

    def run(self, request: RunRequest, show: Show) -> dict[str, Any]:
        """See Builder."""
        return self._ask("run", asdict(request), show)

    def _ask(self, action: str, request: Mapping[str, Any], show: Show) -> dict[str, Any]:
        child = Child(self.name, self.interpreter, "tools.engines.tensorrt_command", self.scratch)
        return child.ask(action, request, show)


def open_builder(name: str, python: Path | None, interpreter: Interpreter, scratch: Path) -> EnvironmentBuilder:
    """Return the builder of that name: in the environment of `python`, else one that is found or made here.

    TensorRT comes with NVIDIA's images and is looked for; TensorRT-RTX is installed by `interpreter` for the occasion.
    """
    if name not in BUILDERS:
        raise Problem(f"unknown builder '{name}'", f"choose one of: {', '.join(BUILDERS)}")
    chosen = python or (interpreter(RTX_EXTRA) if name == TENSORRT_RTX else _find_tensorrt())
    if shutil.which(chosen) is None:
        raise Problem(f"{chosen} is no interpreter that can be run", "name the one that has TensorRT: --python PATH")
    builder = EnvironmentBuilder(name, Path(shutil.which(chosen) or chosen), scratch)
    with step(f"Starting {name}"):
        builder.version()
    return builder


def _find_tensorrt() -> Path:
    """Return an interpreter that has TensorRT: our own, else the one first in PATH."""
    candidates = [sys.executable, *(path for path in (shutil.which("python3"),) if path)]
    (module,) = MODULES[TENSORRT]
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    for candidate in candidates:
        code, _ = run([candidate, "-P", "-c", look], lambda _line: None)
        if code == 0:
            return Path(candidate)
    raise Problem(
        "TensorRT is not installed on this machine",
        "run this in nvcr.io/nvidia/tensorrt:YY.MM-py3 of the release of your Triton, name an interpreter that has it "
        "(--python PATH), or build without a GPU, not for Triton: --builder tensorrt-rtx",
    )
