"""An engine of two graphs: all of both is published, or nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.common.engines import EngineCache
from services.common.model_store import sha256_of
from tests.unit.tools.engines.test_pipeline import (
    WITHOUT_GPU,
    FakeBuilder,
    left,
    never,
    pipeline,
    samples,
    stages,
    verdict,
    write_graph,
)
from tools.cli.console import Problem
from tools.engines import pipeline as module
from tools.engines.composed import ComposedSubject, Part
from tools.engines.pipeline import Stage
from tools.engines.shapes import Range
from tools.engines.subjects import Subject

__all__ = ["stages"]
MODEL, TRITON = "whisper-tiny.en", "whisper_tiny_en"
PROFILES = ({"pixels": Range((1, 4), (2, 4), (3, 4))},)


@pytest.fixture
def subject(tmp_path: Path) -> ComposedSubject:
    weights = tmp_path / "model.bin"
    weights.write_bytes(b"weights")

    def compose(folder: Path) -> Sequence[Part]:
        found = []
        for name in ("encoder", "decoder"):
            write_graph(folder / f"{name}.onnx")
            part = Subject(MODEL, f"{TRITON}_{name}", folder / f"{name}.onnx", samples, never)
            found.append(Part(name, part, PROFILES))
        return found

    return ComposedSubject(
        MODEL,
        TRITON,
        weights,
        samples,
        never,
        compose=compose,
        shapes=lambda: (PROFILES, PROFILES),
        exporter="toys v1",
        takers=("tensorrt-fp16", "onnxruntime-cuda-fp16"),
    )


def test_both_graphs_are_one_engine(tmp_path: Path, subject: ComposedSubject, stages: list[str]) -> None:
    engine = pipeline(tmp_path, None, WITHOUT_GPU).run(subject, "onnxruntime-cuda-fp16").engine
    assert engine is not None and set(engine.files) == {"encoder.onnx", "decoder.onnx"}
    assert stages == ["lint", "precision fp16", "gate"] * 2
    assert engine.key.source_sha256 == sha256_of(subject.graph) and engine.key.recipe.endswith("; toys v1")
    assert engine.gate["passed"] and set(engine.gate["parts"]) == {"encoder", "decoder"}
    live = {"source_sha256": sha256_of(subject.graph), "platform": "linux-x86_64"}
    assert EngineCache(tmp_path / "store").require(TRITON, "onnxruntime-cuda-fp16", live) == engine


def test_both_are_compiled_by_their_own_profiles(tmp_path: Path, subject: ComposedSubject, stages: list[str]) -> None:
    builder = FakeBuilder()
    outcome = pipeline(tmp_path, builder).run(subject, "tensorrt-fp16")
    assert outcome.engine is not None and set(outcome.engine.files) == {"encoder.plan", "decoder.plan"}
    assert [request.profiles[0]["pixels"][2] for request in builder.requests] == [(3, 4)] * 2
    again = pipeline(tmp_path, builder).run(subject, "tensorrt-fp16")
    assert again.engine == outcome.engine and not again.built and len(builder.requests) == 2


def test_nothing_is_published_where_one_is_refused(
    tmp_path: Path, subject: ComposedSubject, stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(part: Subject, *_: Any) -> Any:
        return verdict(part, loss=0.3 if part.triton_model.endswith("decoder") else 0.0)

    monkeypatch.setattr(module, "gate", judge)
    with pytest.raises(Problem, match=r"whisper_tiny_en_decoder: the gate refused .* diverges at 'mean'"):
        pipeline(tmp_path, None, WITHOUT_GPU).run(subject, "onnxruntime-cuda-fp16")
    assert left(tmp_path) == []


def test_it_stops_where_it_is_told_to(tmp_path: Path, subject: ComposedSubject, stages: list[str]) -> None:
    outcome = pipeline(tmp_path, None, WITHOUT_GPU, stop_after=Stage.PRECISION).run(subject, "tensorrt-fp16")
    assert outcome.engine is None and stages == ["lint", "precision fp16"] * 2
    with pytest.raises(Problem, match="no builder was chosen"):
        pipeline(tmp_path, None).run(subject, "tensorrt-fp16")
    with pytest.raises(Problem, match=r"'whisper-tiny.en' takes no engine in profile 'cpu-int8'"):
        pipeline(tmp_path, None).run(subject, "cpu-int8")
