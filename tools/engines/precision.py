"""The precision stage: a graph of the model store in, the same graph in another precision out, with a report.

A recipe is named with its version in the report, and belongs to the key of every engine made from its graph. Inputs and
outputs keep names, dtypes and shapes in every precision: the contract does not change.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from services.common.cpu import weight_bits
from services.common.model_store import sha256_of
from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.engines import calibration
from tools.engines.interface import interface
from tools.engines.recipes.settings import PRECISIONS, Recipe, recipe_for
from tools.engines.subjects import Subject, Tensors
from tools.model_preparation.commands import run

Interpreter = Callable[[str], Path]
"""Returns the interpreter of an environment with the packages of an extra: `ExportEnvironments.interpreter`."""


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """What a conversion made, of what, and how."""

    triton_model: str
    precision: str
    recipe: str
    """Name, version and settings of the recipe with the version of its quantiser, as in the key of the engine."""
    source_sha256: str
    calibration_sha256: str
    """Digest of the calibration inputs; "" where the recipe needs none."""
    sha256: str
    size: int
    """Bytes of the converted graph."""
    source_size: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def precision_of(profile: str) -> str | None:
    """Return the precision of the graph that a profile executes; None for the graph of the store as it is.

    Problem when the profile runs no converted graph at all.
    """
    for precision in ("cpu-int8", "fp16", "int8", "fp8"):
        if profile == precision or profile.endswith(f"-{precision}"):
            return precision
    if profile.endswith("-fp32"):
        return None
    raise Problem(
        f"profile '{profile}' has no precision that a graph is converted to", f"known: {', '.join(PRECISIONS)}"
    )


def convert(
    subject: Subject, precision: str, out: Path, interpreter: Interpreter, show: Callable[[str], None] = print
) -> PrecisionReport:
    """Write the subject's graph in another precision to the file `out`, one ONNX file without external data.

    The same inputs give the same bytes. `interpreter` is asked only by the recipes that need heavy packages; `show`
    takes a line of progress. Problem for an unknown precision, or a quantiser that fails.
    """
    recipe = recipe_for(subject.triton_model, precision)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        work = _Work(subject, precision, recipe, Path(scratch), show)
        try:
            words, data = work.in_environment(interpreter(recipe.environment)) if recipe.environment else work.here()
        except ModuleNotFoundError as error:
            raise Problem(
                f"the calibration data needs the package '{error.name}'", "run: tools/bootstrap --dev"
            ) from error
        work.made.replace(out)
    _check_contract(subject, out)
    return PrecisionReport(
        subject.triton_model,
        precision,
        f"{recipe.name} v{recipe.version}; {words}",
        sha256_of(subject.graph),
        data,
        sha256_of(out),
        out.stat().st_size,
        subject.graph.stat().st_size,
        round(time.monotonic() - started, 3),
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """One conversion. Its ways return what the recipe's words end in, and the digest of the calibration data."""

    subject: Subject
    precision: str
    recipe: Recipe
    scratch: Path
    show: Callable[[str], None]

    @property
    def made(self) -> Path:
        """The converted graph."""
        return self.scratch / "quantised.onnx"

    def here(self) -> tuple[str, str]:
        """Quantise in this process."""
        from tools.engines.recipes import onnxruntime_int8  # noqa: PLC0415 - needs onnx, which serving does not

        bits = weight_bits()
        batches = self._batches()
        job = onnxruntime_int8.Job(self.subject.graph, self.made, self.recipe, bits, self.show)
        try:
            if batches:
                onnxruntime_int8.quantise_static(job, batches)
            else:
                onnxruntime_int8.quantise_dynamic(job)
        except Exception as error:
            raise _refused(self.subject, self.recipe, str(error)) from error
        versions = {name: version(name) for name in self.recipe.packages}
        return _words(self.recipe, versions, weight_bits=bits), calibration.digest(batches) if batches else ""

    def in_environment(self, python: Path) -> tuple[str, str]:
        """Quantise with another interpreter."""
        batches = self._batches()
        data = self.scratch / "calibration.npz"
        calibration.save(batches, data)
        request = {"precision": self.precision, "keep": list(self.recipe.keep), **self.recipe.options}
        command: list[str | Path] = [python, "-m", "tools.engines.recipes.modelopt_command"]
        command += ["--graph", self.subject.graph, "--calibration", data, "--out", self.made]
        code, lines = run([*command, "--request", json.dumps(request)], self.show, cwd=REPOSITORY_ROOT)
        if code != 0:
            said = [line for line in lines if line.strip()] or [f"it ended with status {code}"]
            raise _refused(self.subject, self.recipe, said[-1].removeprefix("refused: "))
        facts = json.loads(self.made.with_suffix(".json").read_text(encoding="utf-8"))
        return _words(self.recipe, facts["versions"]), calibration.digest(batches)

    def _batches(self) -> list[Tensors]:
        if self.recipe.batches == 0:
            return []
        self.show("preparing the calibration data")
        return list(islice(self.subject.calibration(), self.recipe.batches))


def _words(recipe: Recipe, versions: dict[str, str], **settings: object) -> str:
    told = {**recipe.options, **settings, **({"keep": list(recipe.keep)} if recipe.keep else {})}
    named = ", ".join(f"{name} {versions[name]}" for name in recipe.packages)
    return f"{named}; {json.dumps(told, sort_keys=True)}"


def _refused(subject: Subject, recipe: Recipe, said: str) -> Problem:
    line = " ".join(said.split())[:400] or "without a word"
    return Problem(
        f"{subject.triton_model}: {recipe.name} cannot convert the graph: {line}",
        "look at the graph with the lint stage, or leave the nodes it names in floats (recipes/settings.py, keep)",
    )


def _check_contract(subject: Subject, out: Path) -> None:
    """Problem when a conversion changed the names, dtypes or ranks of inputs and outputs."""
    before, after = interface(subject.graph), interface(out)
    if before != after:
        out.unlink()
        raise Problem(
            f"{subject.triton_model}: the converted graph breaks its contract: {after}, not {before}",
            "this recipe cannot be used for the graph",
        )
