"""The stages put together, with a builder that only writes bytes: order, refusals, the cache, and nothing half done."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.common.engines import EngineCache, EngineError, EngineKey
from services.common.machine import Gpu, Machine
from services.common.manifest import load_manifest
from tools.cli.console import Problem
from tools.engines import pipeline as module
from tools.engines.child import Show
from tools.engines.gate import Divergence, GateReport
from tools.engines.keys import BuildOptions, recipe_known
from tools.engines.pipeline import Pipeline, Stage
from tools.engines.precision import PrecisionReport
from tools.engines.subjects import Metric, Run, Subject, Tensors
from tools.engines.tensorrt import BuildRequest
from tools.engines.tensorrt_runtime import RunRequest

MODEL = "efficientnet-lite0"
SIDE, CLASSES = 224, 1000
OPTIONS = BuildOptions(workspace_bytes=1 << 30)
WITHOUT_GPU = Machine("linux-x86_64", memory_bytes=1 << 34)
WITH_GPU = Machine("linux-x86_64", memory_bytes=1 << 34, gpus=(Gpu("NVIDIA L40S", "8.9", 48 << 30),), driver="580.1")


def write_graph(path: Path) -> None:
    """Write a graph with the contract of the classifier: the mean of each picture, spread over the classes."""
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Mul", ["column", "ones"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("ones", TensorProto.FLOAT, [1, CLASSES], [1.0] * CLASSES),
    ]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def samples() -> Iterator[Tensors]:
    random = np.random.default_rng(1)
    for _ in range(3):
        yield {"pixels": random.integers(0, 255, (2, SIDE, SIDE, 3), dtype=np.uint8)}


def never(_reference: Run, _candidate: Run) -> tuple[Metric, ...]:
    raise AssertionError("the gate is a stand-in here")


@dataclass
class FakeBuilder:
    """Writes a plan that is only bytes; `offset` is what its runs are off by."""

    name: str = "tensorrt"
    graph: Path | None = None
    offset: float = 0.0
    fault: str = ""
    requests: list[BuildRequest] = field(default_factory=list)

    def version(self) -> str:
        return f"{self.name} 11.4.0.1"

    def build(self, request: BuildRequest, show: Show) -> dict[str, Any]:
        self.requests.append(request)
        show("timing")
        Path(request.out).write_bytes(b"half a plan")
        if self.fault:
            raise Problem(self.fault, "look")
        Path(request.out).write_bytes(b"a plan")
        signatures = {"inputs": {"pixels": ["UINT8", [-1, SIDE, SIDE, 3]]}, "outputs": {"logits": ["FP32", [-1, -1]]}}
        return {"build_seconds": 1.0, "layers": 4, **signatures}

    def run(self, request: RunRequest, show: Show) -> dict[str, Any]:
        with np.load(request.inputs) as stored:
            results = {}
            for key in stored:
                mean = stored[key].astype(np.float32).mean(axis=(1, 2, 3)) + self.offset
                results[f"{key.partition(':')[0]}:logits"] = np.repeat(mean[:, None], CLASSES, axis=1)
        np.savez(request.outputs, **results)
        return {"gpu": "NVIDIA L40S", "timings": []}


def report(subject: Subject, precision: str, out: Path) -> PrecisionReport:
    digest = "c" * 64
    key = EngineKey(triton_model=subject.triton_model, profile=precision)
    return PrecisionReport(
        subject.triton_model, precision, f"{recipe_known(key)} of a test", digest, digest, digest, 1, 1, 0.1
    )


def verdict(subject: Subject, *, loss: float = 0.0) -> GateReport:
    metric = Metric("top-1 agreement", 1.0, 1.0 - loss, 64)
    place = Divergence("mean", "ReduceMean", 0.4, 0.001) if loss else None
    return GateReport(MODEL, subject.triton_model, "a" * 64, "b" * 64, 0.01, (metric,), place, "", 0.1)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    write_graph(tmp_path / "store.onnx")
    return Subject(MODEL, "efficientnet_lite0", tmp_path / "store.onnx", samples, never)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand-ins for lint, precision and gate; returns what ran."""
    ran: list[str] = []

    def convert(subject: Subject, precision: str, out: Path, _interpreter: object, _show: Show) -> PrecisionReport:
        ran.append(f"precision {precision}")
        write_graph(out)
        model = onnx.load(out)
        model.producer_name = precision
        onnx.save(model, out)
        return report(subject, precision, out)

    def judge(subject: Subject, _candidate: Path, _tolerance: float, _show: Show) -> GateReport:
        ran.append("gate")
        return verdict(subject)

    monkeypatch.setattr(module.lint, "check", lambda _graph: ran.append("lint"))
    monkeypatch.setattr(module, "convert", convert)
    monkeypatch.setattr(module, "gate", judge)
    return ran


def pipeline(tmp_path: Path, builder: FakeBuilder | None, machine: Machine = WITH_GPU, **options: Any) -> Pipeline:
    def interpreter(extra: str) -> Path:
        raise AssertionError(f"no environment with {extra} is needed here")

    return Pipeline(load_manifest(), EngineCache(tmp_path / "store"), machine, OPTIONS, builder, interpreter, **options)


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "store" / "engines").iterdir() if path.name != ".lock")


def test_all_stages_run_in_order_and_the_engine_is_served(tmp_path: Path, subject: Subject, stages: list[str]) -> None:
    builder = FakeBuilder()
    outcome = pipeline(tmp_path, builder).run(subject, "tensorrt-fp16")
    assert stages == ["lint", "precision fp16", "gate"]
    (request,) = builder.requests
    assert request.profiles[0]["pixels"][2] == (32, SIDE, SIDE, 3)
    assert request.timing_cache.endswith("timing/tensorrt-11-4-0-1-nvidia-l40s.cache")
    engine = outcome.engine
    assert engine is not None and outcome.built and outcome.reached is Stage.PUBLISH
    assert engine.path("model.plan").read_bytes() == b"a plan"
    assert (engine.key.recipe, engine.key.calibration_sha256) == (f"{recipe_known(engine.key)} of a test", "c" * 64)
    assert engine.facts["verify"]["ran"] is True and engine.facts["verify"]["samples"] == 3
    live = {"gpu_name": "NVIDIA L40S", "compute_capability": "8.9", "builder": "tensorrt 11.4.0.1"}
    assert EngineCache(tmp_path / "store").require("efficientnet_lite0", "tensorrt-fp16", live) == engine
    assert left(tmp_path) == [engine.key.digest]


def test_a_published_engine_is_not_built_again_unless_asked(
    tmp_path: Path, subject: Subject, stages: list[str]
) -> None:
    builder = FakeBuilder()
    first = pipeline(tmp_path, builder).run(subject, "tensorrt-fp16")
    second = pipeline(tmp_path, builder).run(subject, "tensorrt-fp16")
    assert second.engine == first.engine and not second.built and len(builder.requests) == 1
    assert pipeline(tmp_path, builder, again=True).run(subject, "tensorrt-fp16").built
    assert len(builder.requests) == 2 and len(EngineCache(tmp_path / "store").all()) == 1


def test_an_engine_of_an_older_recipe_is_built_anew(
    tmp_path: Path, subject: Subject, stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pipeline(tmp_path, FakeBuilder()).run(subject, "tensorrt-fp16").built
    monkeypatch.setattr(module, "recipe_known", lambda _key: "autocast v99;")
    assert pipeline(tmp_path, FakeBuilder()).run(subject, "tensorrt-fp16").built


def test_a_damaged_engine_and_one_for_another_gpu_are_built_anew(
    tmp_path: Path, subject: Subject, stages: list[str]
) -> None:
    builder = FakeBuilder()
    engine = pipeline(tmp_path, builder).run(subject, "tensorrt-fp16").engine
    assert engine is not None
    engine.path("model.plan").write_bytes(b"other")
    assert pipeline(tmp_path, builder).run(subject, "tensorrt-fp16").built
    other = Machine("linux-x86_64", 1 << 34, gpus=(Gpu("NVIDIA A10", "8.6", 24 << 30),))
    assert pipeline(tmp_path, builder, other).run(subject, "tensorrt-fp16").built
    assert len(EngineCache(tmp_path / "store").all()) == 2


def test_a_graph_that_the_gate_refuses_is_not_built(
    tmp_path: Path, subject: Subject, stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "gate", lambda *_: verdict(subject, loss=0.3))
    builder = FakeBuilder()
    with pytest.raises(Problem) as raised:
        pipeline(tmp_path, builder).run(subject, "tensorrt-int8")
    message = raised.value.message
    assert "top-1 agreement 0.7000 instead of 1.0000 (loses 30.0 %)" in message
    assert "diverges at 'mean' (ReduceMean)" in message and "\n" not in message
    assert builder.requests == [] and left(tmp_path) == []


def test_a_failed_build_leaves_nothing(tmp_path: Path, subject: Subject, stages: list[str]) -> None:
    with pytest.raises(Problem, match="operator Frobnicate"):
        pipeline(tmp_path, FakeBuilder(fault="operator Frobnicate is not supported")).run(subject, "tensorrt-fp16")
    assert left(tmp_path) == []


def test_an_engine_that_computes_something_else_is_not_published(
    tmp_path: Path, subject: Subject, stages: list[str]
) -> None:
    with pytest.raises(Problem, match="'logits' of the engine is off by"):
        pipeline(tmp_path, FakeBuilder(offset=10.0)).run(subject, "tensorrt-fp16")
    with pytest.raises(Problem, match="off by nan"):
        pipeline(tmp_path, FakeBuilder(offset=float("nan"))).run(subject, "tensorrt-fp16")
    assert left(tmp_path) == []


def test_without_a_gpu_only_tensorrt_rtx_builds_and_the_engine_says_it_did_not_run(
    tmp_path: Path, subject: Subject, stages: list[str]
) -> None:
    with pytest.raises(Problem, match="TensorRT builds on the GPU that it builds for"):
        pipeline(tmp_path, FakeBuilder(), WITHOUT_GPU).run(subject, "tensorrt-fp16")
    engine = pipeline(tmp_path, FakeBuilder("tensorrt-rtx"), WITHOUT_GPU).run(subject, "tensorrt-fp16").engine
    assert engine is not None and not engine.serves_in_triton
    assert list(engine.files) == ["model.tensorrt-rtx.engine"]
    assert engine.facts["verify"] == {
        "ran": False,
        "reason": "not deserialised and not run: no NVIDIA GPU here",
        "platform": "linux-x86_64",
    }
    with pytest.raises(EngineError, match="which Triton cannot execute"):
        EngineCache(tmp_path / "store").require("efficientnet_lite0", "tensorrt-fp16", {})


def test_a_graph_for_onnx_runtime_goes_the_same_way_without_a_builder(
    tmp_path: Path, subject: Subject, stages: list[str]
) -> None:
    engine = pipeline(tmp_path, None, WITHOUT_GPU).run(subject, "cpu-int8").engine
    assert stages == ["lint", "precision cpu-int8", "gate"]
    assert engine is not None and list(engine.files) == ["model.onnx"] and engine.serves_in_triton
    assert engine.key.builder == "" and engine.key.shapes == "" and engine.key.platform == ""
    assert EngineCache(tmp_path / "store").require("efficientnet_lite0", "cpu-int8", {"platform": "linux-aarch64"})


def test_the_graph_of_the_store_needs_neither_conversion_nor_gate(
    tmp_path: Path, subject: Subject, stages: list[str]
) -> None:
    engine = pipeline(tmp_path, FakeBuilder()).run(subject, "tensorrt-fp32").engine
    assert stages == ["lint"]
    assert engine is not None and engine.gate == {"passed": True, "reason": "it is the graph of the store itself"}


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.PUBLISH])
def test_every_stage_can_be_the_last(tmp_path: Path, subject: Subject, stages: list[str], stage: Stage) -> None:
    builder = FakeBuilder() if stage in (Stage.BUILD, Stage.VERIFY) else None
    keep = tmp_path / "kept"
    outcome = pipeline(tmp_path, builder, stop_after=stage, keep=keep).run(subject, "tensorrt-fp16")
    assert outcome.reached is stage and outcome.engine is None and left(tmp_path) == []
    kept = {path.name for path in keep.iterdir()} if keep.exists() else set()
    assert ("efficientnet_lite0.tensorrt-fp16.model.onnx" in kept) == (stage is not Stage.LINT)
    assert ("efficientnet_lite0.tensorrt-fp16.model.plan" in kept) == (builder is not None)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("nope", "there is no profile 'nope'"),
        ("tensorrt-fp4", "has no precision"),
        ("cpu-fp32", "needs no engine"),
        ("vllm-bf16-tp2", "needs no engine"),
    ],
)
def test_a_profile_that_has_no_engine_is_refused(
    tmp_path: Path, subject: Subject, stages: list[str], profile: str, message: str
) -> None:
    with pytest.raises(Problem, match=message):
        pipeline(tmp_path, FakeBuilder()).run(subject, profile)


def test_a_compiled_profile_needs_a_builder(tmp_path: Path, subject: Subject, stages: list[str]) -> None:
    with pytest.raises(Problem, match="no builder was chosen"):
        pipeline(tmp_path, None).run(subject, "tensorrt-fp16")


def test_too_little_room_is_told_before_anything_is_built(
    tmp_path: Path, subject: Subject, stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(module.shutil, "disk_usage", lambda _root: Usage)
    with pytest.raises(Problem, match=r"building takes .* GB in .* 0.00 GB are free"):
        pipeline(tmp_path, FakeBuilder()).run(subject, "tensorrt-fp16")
    assert stages == []
