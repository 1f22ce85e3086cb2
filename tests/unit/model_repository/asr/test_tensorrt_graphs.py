"""Buffers, shapes and CUDA graphs of the TensorRT engine, on an imitation of it: no GPU is there."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.model_repository.asr.conftest import part
from tests.unit.model_repository.asr.imitated_tensorrt import Runtime, modules, write_plans
from tests.unit.model_repository.asr.random_whisper import ENGLISH, NO_TIMES, START, TRANSCRIBE

TIMED = (START, ENGLISH, TRANSCRIBE)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def on_tensorrt(whisper: Path, special: Any, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, module in modules(runtime).items():
        monkeypatch.setitem(sys.modules, name, module)
    name = part("device").__name__.replace("device", "tensorrt_graphs")
    monkeypatch.delitem(sys.modules, name, raising=False)
    write_plans(whisper, tmp_path)
    graphs = part("tensorrt_graphs").TensorRtGraphs(tmp_path, part("device").Device("cuda"), 4)
    yield part("graph_recogniser").GraphRecogniser(graphs, special)
    sys.modules.pop(name, None)


def sound(windows: int, frames: int = 3000) -> Any:
    return np.random.default_rng(7).normal(0, 1, (windows, 80, frames)).astype(np.float32)


def everything(_row: int) -> bool:
    return True


def test_it_reads_what_onnx_runtime_reads(
    on_tensorrt: Any, on_onnxruntime: Any, runtime: Runtime, row: Callable[..., Any]
) -> None:
    asked = [
        [row(TIMED, word_times=True)],
        [row(TIMED), row((START,), detect_language=True), row((*TIMED, NO_TIMES), beam_size=3, alternatives=2)],
        [row(TIMED, beam_size=2, max_new_tokens=70, word_times=True)] * 3,  # one more window makes four; areas grow
        [row(TIMED, word_times=True)] * 2,
        [row(TIMED, word_times=True)],
    ]
    for rows in asked:
        windows = sound(len(rows))
        found = on_tensorrt.read(windows, rows, everything)
        expected = on_onnxruntime.read(windows, rows, everything)
        for one, other in zip(found, expected, strict=True):
            assert (one.texts, one.token_times) == (other.texts, other.token_times)
            assert one.scores == pytest.approx(other.scores, abs=1e-4)
            assert one.languages == pytest.approx(other.languages, abs=1e-5)
            assert one.token_probabilities == pytest.approx(other.token_probabilities, abs=1e-4)
    assert runtime.launches > 50, "the steps of the loop are CUDA graphs"


def test_a_window_is_padded_to_30_seconds_of_silence(
    on_tensorrt: Any, on_onnxruntime: Any, row: Callable[..., Any]
) -> None:
    short = sound(1, 500)
    padded = np.full((1, 80, 3000), short.min(), np.float32)
    padded[:, :, :500] = short
    (found,) = on_tensorrt.read(short, [row(TIMED, 500)], everything)
    (expected,) = on_onnxruntime.read(padded, [row(TIMED, 500)], everything)
    assert found.texts == expected.texts


def test_a_plan_for_another_machine_is_named(on_tensorrt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = on_tensorrt.graphs
    monkeypatch.setattr(graphs._runtime, "deserialize_cuda_engine", lambda _content: None)
    with pytest.raises(RuntimeError, match=r"encoder\.plan: not a plan for this GPU"):
        graphs._engine(tmp_path / "encoder.plan")


def test_a_fault_of_cuda_has_its_name(on_tensorrt: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failure(int):
        name = "cudaErrorMemoryAllocation"

    monkeypatch.setattr(runtime, "cudaMalloc", lambda _size: (Failure(2), 0), raising=False)
    with pytest.raises(part("cuda").CudaError, match="cudaMalloc: cudaErrorMemoryAllocation"):
        on_tensorrt.graphs.cuda.area("new", 10)
