"""Graphs that were made for GPUs, computed on a CPU as they stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.engines.sessions import open_graph

SCALE, WEIGHT, BIAS = np.float16(0.047), np.float16(0.15), np.float16(11.0)
"""The bias over the product of both scales is beyond half precision, as in convolutions after a ReLU6."""
WEIGHT_SCALE = np.float16(0.0013)


def quantised_convolution() -> onnx.ModelProto:
    """Return x [1, 1, n, n] float32 -> Cast -> Q/DQ -> Conv of a Q/DQ weight and a bias -> Q/DQ -> Cast -> y."""
    constants = {
        "x_scale": SCALE,
        "w_scale": WEIGHT_SCALE,
        "y_scale": np.float16(0.1),
        "weight": np.full((1, 1, 1, 1), WEIGHT, np.float16),
        "bias": np.array([BIAS], np.float16),
        "zero": np.int8(0),
    }
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("QuantizeLinear", ["half", "x_scale", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "x_scale", "zero"], ["x_dq"]),
        helper.make_node("QuantizeLinear", ["weight", "w_scale", "zero"], ["w_q"]),
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "zero"], ["w_dq"]),
        helper.make_node("Conv", ["x_dq", "w_dq", "bias"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "y_scale", "zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_scale", "zero"], ["y_dq"]),
        helper.make_node("Cast", ["y_dq"], ["y"], to=TensorProto.FLOAT),
    ]
    shape = [1, 1, "n", "n"]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def test_a_bias_stays_as_the_graph_has_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(quantised_convolution(), path)
    x = np.full((1, 1, 2, 2), 3.0, np.float32)
    expected = float(BIAS) + 3.0 * float(WEIGHT)
    for graph in (path, path.read_bytes()):
        np.testing.assert_allclose(open_graph(graph)({"x": x})["y"], expected, rtol=0.01)
