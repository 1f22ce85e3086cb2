from pathlib import Path

from tests.unit.tools.engines.small_graph import save, small_model, small_subject
from tools.engines.pace import pace


def test_a_graph_is_about_as_fast_as_itself(tmp_path: Path) -> None:
    subject = small_subject(save(small_model(), tmp_path / "model.onnx"))
    found = pace(subject, subject.graph, rounds=5)
    assert found.least <= found.ratio <= found.greatest
    assert found.reference_ms > 0
    assert found.candidate_ms > 0
