"""Nodes of a graph by their place in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import onnx

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
