"""A small classifier as an ONNX graph, and the subject around it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tools.engines.metrics.classes import agreement, margins
from tools.engines.subjects import Metric, Run, Subject, Tensors

CLASSES, SIDE = 5, 8
NAME = "small_classifier"


def small_model(opset: int = 17, producer: str = "") -> onnx.ModelProto:
    """Return pixels [batch, 3, 8, 8] -> Conv -> Relu -> Conv -> Relu -> mean -> Gemm -> logits [batch, 5]."""
    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(scale=0.3, size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["pixels", "first_weight", "first_bias"], ["first"], "layer/first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["first"], ["first_active"], "layer/first_active"),
        helper.make_node("Conv", ["first_active", "second_weight"], ["second"], "layer/second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["second"], ["second_active"], "layer/second_active"),
        helper.make_node("GlobalAveragePool", ["second_active"], ["mean"], "layer/mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "layer/flat"),
        helper.make_node("Gemm", ["flat", "head_weight"], ["logits"], "layer/head", transB=1),
    ]
    constants = [
        weights("first_weight", 16, 3, 3, 3),
        weights("first_bias", 16),
        weights("second_weight", 24, 16, 3, 3),
        weights("head_weight", CLASSES, 24),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        constants,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name=producer)


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def small_subject(graph: Path, name: str = NAME) -> Subject:
    return Subject("small-classifier", name, graph, calibration, evaluate)


def calibration() -> Iterator[Tensors]:
    return _batches(seed=1, count=6)


def evaluate(reference: Run, candidate: Run) -> tuple[Metric, ...]:
    before, after = (_logits(run) for run in (reference, candidate))
    clear = margins(before) > 0.2
    return (Metric("top-1 agreement", 1.0, agreement(before[clear], after[clear]), int(clear.sum())),)


def _logits(run: Run) -> NDArray[np.float32]:
    return np.concatenate([run(batch)["logits"] for batch in _batches(seed=2, count=25)])


def _batches(seed: int, count: int) -> Iterator[Tensors]:
    """Yield pictures of which each is mostly one colour: classes then lie far apart."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        colours = random.normal(scale=2, size=(8, 3, 1, 1))
        yield {"pixels": (colours + random.normal(scale=0.3, size=(8, 3, SIDE, SIDE))).astype(np.float32)}
