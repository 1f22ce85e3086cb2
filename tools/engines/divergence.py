"""Where a converted graph leaves the original: tensors that both compute, compared one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from tools.engines.recipes.graph_nodes import LARGEST
from tools.engines.sessions import open_graph
from tools.engines.subjects import Tensors

AT_ONCE = 40
"""Tensors fetched in one run: a graph's inner tensors together may be gigabytes."""
DEQUANTISED = "_DequantizeLinear_Output"
"""What quantisers add to a tensor's name where they return to floats. An activation merged into the node before it
is there in this form only."""
JUMP = 4.0
LEAST_ERROR = 0.1


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a candidate first leaves the reference."""

    tensor: str
    operator: str
    """Type of the node that makes the tensor."""
    error: float
    """Relative distance to the reference's tensor: the length of the difference over the length of the reference."""
    before: float
    """The largest error among the tensors that were computed before it."""


def first_divergence(reference: Path, candidate: Path, inputs: Tensors) -> Divergence | None:
    """Return the first tensor, in the reference's order, whose error jumps; else the one with the largest error.

    Compares tensors that have one name and shape in both graphs. None where there is none, or nothing differs.
    """
    before, after = onnx.load(reference), onnx.load(candidate)
    theirs = {name for node in after.graph.node for name in node.output}
    made = {
        name: node.op_type for node in before.graph.node for name in node.output if name and node.op_type != "Constant"
    }
    twins = {name: next((one for one in (name + DEQUANTISED, name) if one in theirs), "") for name in made}
    names = [name for name in made if twins[name]]
    worst, found = 0.0, None
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        old, new = _values(before, some, inputs), _values(after, [twins[name] for name in some], inputs)
        for name in some:
            error = _error(old.get(name), new.get(twins[name]))
            if error is None:
                continue
            if error >= LEAST_ERROR and error >= JUMP * worst:
                return Divergence(name, made[name], error, worst)
            if error > worst:
                worst, found = error, Divergence(name, made[name], error, worst)
    return found


def _values(model: onnx.ModelProto, names: list[str], inputs: Tensors) -> Tensors:
    """Return inner tensors of a graph by name."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    there = {output.name for output in wider.graph.output}
    wider.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in there)
    return open_graph(wider.SerializeToString())(inputs)


def _error(old: NDArray[np.generic] | None, new: NDArray[np.generic] | None) -> float | None:
    """Return the relative distance; None for tensors that cannot be compared."""
    if old is None or new is None or old.shape != new.shape or old.dtype.kind != "f" or new.dtype.kind != "f":
        return None
    # Masks of infinity are brought into the range of half precision on purpose.
    exact, near = (np.clip(values.astype(np.float64), -LARGEST, LARGEST) for values in (old, new))
    length = float(np.linalg.norm(exact))
    if length == 0 or not np.isfinite(length):
        return None
    distance = float(np.linalg.norm(np.nan_to_num(near - exact, nan=length, posinf=length, neginf=length)))
    return distance / length
