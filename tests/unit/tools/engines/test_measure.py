"""Measuring: the shapes, and ONNX Runtime's part on the CPU provider, which every machine has."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.common.runtime_repository import MODEL_REPOSITORY, read_config
from tools.cli.console import Problem
from tools.engines.measure import ROOFLINE_MS, measure_onnxruntime, sample
from tools.engines.shapes import covering, optimisation_profiles

GRAPHS = {
    "all_minilm_l6_v2": "embedding",
    "efficientnet_lite0": "vision",
    "pp_ocrv6_det": "vision",
    "pp_ocrv6_rec": "vision",
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch", [1, 4])
def test_measured_shapes_lie_inside_the_profiles(name: str, batch: int) -> None:
    profiles = optimisation_profiles(read_config(MODEL_REPOSITORY / GRAPHS[name] / name / "config.pbtxt"))
    tensors = sample(name, profiles, batch)
    assert covering(profiles, {key: array.shape for key, array in tensors.items()})
    assert all(len(array) == batch for array in tensors.values())


def test_the_roofline_is_of_shapes_that_are_measured() -> None:
    for (name, batch), floor in ROOFLINE_MS.items():
        config = read_config(MODEL_REPOSITORY / GRAPHS[name] / name / "config.pbtxt")
        assert batch <= config.max_batch_size and floor > 0
    profiles = optimisation_profiles(read_config(MODEL_REPOSITORY / "embedding/all_minilm_l6_v2/config.pbtxt"))
    assert sample("all_minilm_l6_v2", profiles, 1)["input_ids"].shape == (1, 128)


def write_graph(path: Path) -> Path:
    node = helper.make_node("Relu", ["x"], ["y"])
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in "xy"]
    graph = helper.make_graph([node], "toy", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_onnx_runtime_is_run_timed_and_compared(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "toy.onnx")
    samples = [{"x": np.linspace(-1, 1, 8 * batch, dtype=np.float32).reshape(batch, 8)} for batch in (1, 3)]
    rows = measure_onnxruntime("toy", graph, samples, Path(sys.executable), tmp_path, provider="CPUExecutionProvider")
    assert [row.batch for row in rows] == [1, 3]
    assert all(row.queued_ms > 0 and row.cuda_graph_ms is None and row.distance == 0 for row in rows)
    assert "CPUExecutionProvider" in rows[0].runtime


def test_an_environment_without_cuda_is_one_clear_line(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "toy.onnx")
    with pytest.raises(Problem, match="has no CUDAExecutionProvider in this environment"):
        measure_onnxruntime("toy", graph, [{"x": np.zeros((1, 8), np.float32)}], Path(sys.executable), tmp_path)
