from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.unit.tools.engines.small_graph import save, small_model, small_subject
from tools.engines.gate import GateReport, gate
from tools.engines.precision import convert
from tools.engines.subjects import Metric, Run, Subject


def _no_environment(extra: str) -> Path:
    raise AssertionError(f"asked for {extra}")


def _quiet(line: str) -> None:
    assert line


def _judge(subject: Subject, candidate: Path) -> GateReport:
    return gate(subject, candidate, show=_quiet)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return small_subject(save(small_model(), tmp_path / "model.onnx"))


@pytest.fixture
def quantised(subject: Subject, tmp_path: Path) -> Path:
    out = tmp_path / "int8.onnx"
    convert(subject, "cpu-int8", out, _no_environment, _quiet)
    return out


def test_a_good_quantisation_passes(subject: Subject, quantised: Path) -> None:
    report = _judge(subject, quantised)
    assert report.passed, report.text()
    assert report.divergence is None
    assert report.to_json()["passed"] is True
    assert "small_classifier: passed (may lose 1.0%)" in report.text()


def test_a_broken_quantisation_is_refused_and_the_place_is_named(subject: Subject, quantised: Path) -> None:
    model = onnx.load(quantised)
    (scale,) = [one for one in model.graph.initializer if one.name.startswith("second_weight") and "scale" in one.name]
    wrong = numpy_helper.to_array(scale) * np.where(np.arange(24) % 2, 12, -1)
    scale.CopyFrom(numpy_helper.from_array(wrong.astype(np.float32), scale.name))
    onnx.save(model, quantised)

    report = _judge(subject, quantised)

    assert not report.passed
    assert report.failed[0].loss > 0.01
    assert report.divergence is not None
    assert (report.divergence.tensor, report.divergence.operator) == ("second_active", "Relu")
    assert report.divergence.error > 4 * report.divergence.before
    assert report.to_json()["divergence"]["tensor"] == "second_active"
    assert "diverges at 'second_active' (Relu)" in report.text()


def test_numbers_that_are_none_are_refused(subject: Subject, tmp_path: Path) -> None:
    model = small_model()
    model.graph.initializer[3].CopyFrom(
        numpy_helper.from_array(np.full((5, 24), np.nan, dtype=np.float32), "head_weight")
    )
    report = _judge(subject, save(model, tmp_path / "nan.onnx"))
    assert not report.passed
    assert report.divergence is not None
    assert report.divergence.tensor == "logits"


def test_a_file_that_is_no_graph_is_refused(subject: Subject, tmp_path: Path) -> None:
    candidate = tmp_path / "garbage.onnx"
    candidate.write_bytes(b"garbage")
    report = _judge(subject, candidate)
    assert not report.passed
    assert report.fault.startswith("the graph does not load: ")


def test_another_contract_is_refused(subject: Subject, tmp_path: Path) -> None:
    model = small_model()
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"
    report = _judge(subject, save(model, tmp_path / "other.onnx"))
    assert not report.passed
    assert report.fault.startswith("the graph breaks its contract: ")


def test_a_task_that_cannot_be_measured_is_refused(subject: Subject, tmp_path: Path) -> None:
    def fails(_reference: Run, _candidate: Run) -> tuple[Metric, ...]:
        raise ValueError("no boxes")

    strange = Subject(subject.model_id, subject.triton_model, subject.graph, subject.calibration, fails)
    report = _judge(strange, subject.graph)
    assert not report.passed
    assert report.fault == "the task cannot be measured: no boxes"


@pytest.mark.parametrize(
    ("value", "decides", "passed"),
    [(0.99, True, True), (0.989, True, False), (0.5, False, False), (float("nan"), True, False)],
)
def test_one_percent_may_be_lost(value: float, decides: bool, passed: bool) -> None:
    metrics = (Metric("it", 1.0, value, 100, decides=decides),)
    assert GateReport("m", "m", "", "", 0.01, metrics, None, "", 0.0).passed is passed


def test_what_is_only_told_does_not_refuse() -> None:
    metrics = (Metric("it", 0.8, 0.81, 100), Metric("other", 1.0, 0.2, 100, decides=False))
    report = GateReport("m", "m", "", "", 0.01, metrics, None, "", 0.0)
    assert report.passed
    assert metrics[0].loss < 0
