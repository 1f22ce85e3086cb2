"""The gate: a converted graph passes when it loses at most so much of its task against the graph of the model store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.engines.subjects import Metric, Subject

DEFAULT_TOLERANCE = 0.01
"""Largest share of a deciding metric that may be lost."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a candidate first leaves the reference."""

    tensor: str
    operator: str
    """Type of the node that makes the tensor."""
    error: float
    """Relative distance to the reference's tensor: the length of the difference over the length of the reference."""
    before: float
    """The largest error among the tensors that were computed before it."""


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict on a candidate."""

    model_id: str
    triton_model: str
    reference_sha256: str
    candidate_sha256: str
    tolerance: float
    metrics: tuple[Metric, ...]
    divergence: Divergence | None
    """Set where the candidate is refused and its tensors can be compared."""
    fault: str
    """Why the candidate cannot be judged by metrics (it does not load, it breaks the contract), else ""."""
    seconds: float

    @property
    def failed(self) -> tuple[Metric, ...]:
        """The deciding metrics that lost too much."""
        return tuple(one for one in self.metrics if one.decides and not one.loss <= self.tolerance)

    @property
    def passed(self) -> bool:
        """Whether the candidate may be used."""
        return not self.fault and bool(self.metrics) and not self.failed

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types, `passed` and the loss of every metric included."""
        metrics = [{**asdict(one), "loss": one.loss} for one in self.metrics]
        return {**asdict(self), "passed": self.passed, "metrics": metrics}


def gate(
    subject: Subject, candidate: Path, tolerance: float = DEFAULT_TOLERANCE, show: Callable[[str], None] = print
) -> GateReport:
    """Judge a converted graph on ONNX Runtime's CPU provider; a refusal is a report, not an exception."""
    raise NotImplementedError
