"""The precision stage: a graph of the model store in, the same graph in another precision out, with a report.

A recipe is named with its version in the report, and belongs to the key of every engine made from its graph. Inputs and
outputs keep names, dtypes and shapes in every precision: the contract does not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.cli.console import Problem
from tools.engines.subjects import Subject

PRECISIONS = ("fp16", "int8", "fp8", "cpu-int8")
"""fp16: AutoCast; int8 and fp8: Q/DQ for TensorRT; cpu-int8: for ONNX Runtime on a CPU."""

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
    takes a line of progress. Problem for an unknown precision, a graph with faults, or a quantiser that fails.
    """
    raise Problem(f"unknown precision '{precision}'", f"choose one of: {', '.join(PRECISIONS)}")
