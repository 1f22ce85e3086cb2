"""What a caller sees of an ONNX graph: its inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import onnx


def interface(path: Path) -> dict[str, str]:
    """Return "<dtype> rank <n>" of every input and output by name, inputs as "in:<name>", outputs as "out:<name>"."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {constant.name for constant in graph.initializer}
    sides = (("in", [one for one in graph.input if one.name not in constants]), ("out", list(graph.output)))
    return {f"{side}:{tensor.name}": _described(tensor) for side, tensors in sides for tensor in tensors}


def _described(tensor: onnx.ValueInfoProto) -> str:
    kind = tensor.type.tensor_type
    name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    return f"{name} rank {len(kind.shape.dim)}"
