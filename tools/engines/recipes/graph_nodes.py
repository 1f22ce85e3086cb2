"""Nodes of a graph by their place in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import numpy as np
import onnx
from onnx import numpy_helper

INFINITE, LARGEST = 1e30, np.float32(60_000)
"""From the first on a constant means infinity; the second is in the range of half precision."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def after_the_last_weights(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the nodes that no convolution or matrix product follows: what turns numbers into results.

    Box arithmetic and choices among scores lose more by eight bits than they gain in speed.
    """
    feeds_weights: set[str] = set()
    tail: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in WEIGHTED or feeds_weights.intersection(node.output):
            feeds_weights.update(node.input)
        else:
            tail.add(node.name)
    return {name for name in tail if name} - {node.name for node in graph.node if node.op_type in WEIGHTED}


def matching(names: Iterable[str], patterns: Collection[str]) -> set[str]:
    """Return the names that one of the regular expressions matches in full."""
    return {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give a name to every node that has none: quantisers tell nodes apart by their names."""
    taken = {node.name for node in graph.node}
    for number, node in enumerate(graph.node):
        if not node.name:
            name = f"{node.op_type}_{number}"
            node.name = name if name not in taken else f"{name}_of_{node.output[0]}"


def fit_half_precision(graph: onnx.GraphProto) -> None:
    """Bring constants that stand for infinity, as attention masks add them, into the range of half precision.

    There they would be infinite, and a mask that is multiplied by zero no number.
    """
    inside = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    for constant in [*graph.initializer, *inside]:
        if constant.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(constant)
        if values.size and np.abs(values).max() >= INFINITE:
            constant.CopyFrom(numpy_helper.from_array(np.clip(values, -LARGEST, LARGEST), constant.name))


def spare_other_readers(graph: onnx.GraphProto, operators: Collection[str]) -> None:
    """Let the nodes of other types than `operators` read tensors as they were before Q/DQ.

    A quantiser puts its nodes in the way of all who read a tensor: sums around a normalisation would add up what was
    rounded for the matrix product beside them.
    """
    made = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in {*operators, "QuantizeLinear", "DequantizeLinear"}:
            continue
        for place, name in enumerate(node.input):
            back = made.get(name)
            if back is None or back.op_type != "DequantizeLinear":
                continue
            rounded = made.get(back.input[0])
            if rounded is not None and rounded.op_type == "QuantizeLinear":
                node.input[place] = rounded.input[0]
