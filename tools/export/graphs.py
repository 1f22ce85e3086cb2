"""Surgery on ONNX graphs: the common input `pixels`, new outputs, a checked file. Plain operators only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tools.export.command import ExportRefusedError
from tools.export.selftest import Tensors, difference, largest_difference, write_selftest

Size = int | str
"""A fixed length, or the name of a free one."""


def take_pixels(
    model: ModelProto, height: Size, width: Size, scale: float = 1, shift: float = 0, *, bgr: bool = False
) -> None:
    """Put `pixels`, uint8 RGB [batch, height, width, 3], before a graph that takes one float [batch, 3, h, w].

    The graph is fed pixels * scale + shift, its planes in the order blue, green, red when `bgr` is set.
    """
    graph = model.graph
    constants = {constant.name for constant in graph.initializer}
    (original,) = [tensor.name for tensor in graph.input if tensor.name not in constants]
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("Transpose", [], {"perm": [0, 3, 1, 2]}),
    ]
    if bgr:
        add_constant(model, "pixels_bgr", np.array([2, 1, 0], dtype=np.int64))
        steps.append(("Gather", ["pixels_bgr"], {"axis": 1}))
    for operator, name, value, neutral in (("Mul", "pixels_scale", scale, 1), ("Add", "pixels_shift", shift, 0)):
        if value != neutral:
            add_constant(model, name, np.array(value, dtype=np.float32))
            steps.append((operator, [name], {}))
    nodes, current = [], "pixels"
    for number, (operator, others, attributes) in enumerate(steps):
        result = original if number == len(steps) - 1 else f"pixels_{operator.lower()}"
        nodes.append(helper.make_node(operator, [current, *others], [result], f"pixels/{operator}", **attributes))
        current = result
    kept = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *kept])
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", height, width, 3]))


def add_constant(model: ModelProto, name: str, values: NDArray[Any]) -> None:
    """Add a constant that nodes name."""
    model.graph.initializer.append(numpy_helper.from_array(values, name))


def give(model: ModelProto, nodes: Sequence[NodeProto], outputs: Mapping[str, tuple[int, Sequence[Size]]]) -> None:
    """Append nodes and make `outputs`, name to element type and shape, the only outputs of the graph."""
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()
    )


def save(model: ModelProto, path: Path) -> None:
    """Check a graph and write it, without what no output needs and without what the original said of inner shapes.

    Those may hold for one size only.
    """
    del model.graph.value_info[:]
    used = {output.name for output in model.graph.output}
    for node in reversed(model.graph.node):
        if used.intersection(node.output):
            used.update(node.input)
        else:
            model.graph.node.remove(node)
    constants = [constant for constant in model.graph.initializer if constant.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def compute(path: Path, inputs: Tensors) -> dict[str, NDArray[Any]]:
    """Run a graph with ONNX Runtime; all its outputs by name."""
    import onnxruntime  # noqa: PLC0415 - slow to import

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def prove(path: Path, inputs: Tensors, expected: Tensors) -> float:
    """Hold a graph against the original's outputs, write both as its self-test, return the largest difference."""
    actual = compute(path, inputs)
    if wrong := difference(expected, actual):
        raise ExportRefusedError(f"{path.name} differs from the original: {wrong}")
    write_selftest(path.with_suffix(".selftest.npz"), inputs, expected)
    return largest_difference(expected, actual)
