"""The gate: a converted graph passes when it loses at most so much of its task against the graph of the model store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.common.model_store import sha256_of
from tools.engines.divergence import Divergence, first_divergence
from tools.engines.interface import interface
from tools.engines.sessions import open_graph
from tools.engines.subjects import Metric, Run, Subject

DEFAULT_TOLERANCE = 0.01
"""Largest share of a deciding metric that may be lost."""
ROUNDING = 1e-9


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
        return tuple(one for one in self.metrics if one.decides and not one.loss <= self.tolerance + ROUNDING)

    @property
    def passed(self) -> bool:
        """Whether the candidate may be used."""
        return not self.fault and any(one.decides for one in self.metrics) and not self.failed

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types, `passed` and the loss of every metric included."""
        metrics = [{**asdict(one), "loss": one.loss} for one in self.metrics]
        return {**asdict(self), "passed": self.passed, "metrics": metrics}

    def text(self) -> str:
        """Return the report for a reader: the verdict, a line for each metric, and where a refused graph diverges."""
        lines = [f"{self.triton_model}: {'passed' if self.passed else 'REFUSED'} (may lose {self.tolerance:.1%})"]
        if self.fault:
            lines.append(f"  {self.fault}")
        for one in self.metrics:
            mark = "only told" if not one.decides else "too much" if one in self.failed else "ok"
            numbers = f"{one.reference:.4f} -> {one.candidate:.4f}, loses {one.loss:.2%} of {one.samples} samples"
            lines.append(f"  {one.name}: {numbers} ({mark})")
        if self.divergence:
            place = self.divergence
            errors = f"error {place.error:.3f}, before it {place.before:.3f}"
            lines.append(f"  diverges at '{place.tensor}' ({place.operator}): {errors}")
        return "\n".join(lines)


def gate(
    subject: Subject, candidate: Path, tolerance: float = DEFAULT_TOLERANCE, show: Callable[[str], None] = print
) -> GateReport:
    """Judge a converted graph on ONNX Runtime's CPU provider; a refusal is a report, not an exception."""
    started = time.monotonic()
    metrics: tuple[Metric, ...] = ()
    divergence = None
    run, fault = _opened(subject, candidate)
    if run is not None:
        show("measuring the task with both graphs")
        try:
            metrics = subject.evaluate(open_graph(subject.graph), run)
        except Exception as error:
            fault = f"the task cannot be measured: {_line(error)}"
    report = GateReport(
        subject.model_id,
        subject.triton_model,
        sha256_of(subject.graph),
        sha256_of(candidate),
        tolerance,
        metrics,
        divergence,
        fault,
        round(time.monotonic() - started, 3),
    )
    if report.passed or run is None:
        return report
    show("looking for the place where the graphs diverge")
    return _with_divergence(subject, candidate, report, started)


def _opened(subject: Subject, candidate: Path) -> tuple[Run | None, str]:
    """Return what computes the candidate, or why it cannot be used."""
    try:
        before, after = interface(subject.graph), interface(candidate)
        if before != after:
            return None, f"the graph breaks its contract: {after}, not {before}"
        return open_graph(candidate), ""
    except Exception as error:
        return None, f"the graph does not load: {_line(error)}"


def _with_divergence(subject: Subject, candidate: Path, report: GateReport, started: float) -> GateReport:
    try:
        place = first_divergence(subject.graph, candidate, next(subject.calibration()))
    except Exception as error:
        place, fault = None, f"{report.fault} (no tensor to compare: {_line(error)})".strip()
    else:
        fault = report.fault
    return GateReport(
        report.model_id,
        report.triton_model,
        report.reference_sha256,
        report.candidate_sha256,
        report.tolerance,
        report.metrics,
        place,
        fault,
        round(time.monotonic() - started, 3),
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
