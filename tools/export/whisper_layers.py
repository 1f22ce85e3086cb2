"""The layers of Whisper as ONNX nodes: names that tell where a value comes from, plain operators of opset 17 only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tools.export.whisper_weights import Floats, Network

OPSET, IR_VERSION = 17, 8
EPSILON = 1e-5
MASKED = -30000.0
"""Score of a position that must not be seen; float16 holds it."""
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT32
Size = int | str


class Graph:
    """A graph in the making. Values are names; `block` is what the names of nodes begin with."""

    def __init__(self, name: str, network: Network) -> None:
        self.name, self.network, self.block = name, network, ""
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def node(self, operator: str, *inputs: str, name: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return it."""
        name = f"{self.block}/{name}"
        output = output or f"{name}_value"
        self._nodes.append(helper.make_node(operator, inputs, [output], name, **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any] | Sequence[int] | float) -> str:
        """Add a constant, once for a name, and return it. A list is int64, a number float32."""
        if name not in self._constants:
            array = np.asarray(values, np.int64 if isinstance(values, Sequence) else None)
            array = array.astype(np.float32) if isinstance(values, float) else array
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name: str) -> Floats:
        """Return weights of the network."""
        return self.network.weights[name]

    def linear(self, value: str, weight: Floats, bias: Floats, name: str) -> str:
        """Return value @ weight.T + bias; `weight` is [out, in]."""
        place = f"{self.block}/{name}"
        product = self.node("MatMul", value, self.constant(f"{place}/weight", weight.T), name=f"{name}/matmul")
        return self.node("Add", product, self.constant(f"{place}/bias", bias), name=f"{name}/add")

    def norm(self, value: str, source: str, name: str) -> str:
        """Layer normalisation with the weights below `source`."""
        scale = self.constant(f"{source}/gamma", self.weight(f"{source}/gamma"))
        bias = self.constant(f"{source}/beta", self.weight(f"{source}/beta"))
        return self.node("LayerNormalization", value, scale, bias, name=name, axis=-1, epsilon=EPSILON)

    def gelu(self, value: str, name: str) -> str:
        """Exact GELU, from the error function."""
        scaled = self.node("Div", value, self.constant("gelu/root", float(np.sqrt(2.0))), name=f"{name}/div")
        error = self.node("Erf", scaled, name=f"{name}/erf")
        raised = self.node("Add", error, self.constant("gelu/one", 1.0), name=f"{name}/add")
        product = self.node("Mul", value, raised, name=f"{name}/mul")
        return self.node("Mul", product, self.constant("gelu/half", 0.5), name=f"{name}/half")

    def feed_forward(self, value: str, source: str) -> str:
        """Add what the two linear layers below `source` make of a value."""
        inner = self.norm(value, f"{source}/layer_norm", "ffn_norm")
        for number in (0, 1):
            place = f"{source}/linear_{number}"
            inner = self.linear(inner, self.weight(f"{place}/weight"), self.weight(f"{place}/bias"), f"ffn_{number}")
            inner = inner if number else self.gelu(inner, "ffn_gelu")
        return self.node("Add", value, inner, name="ffn_residual")

    def projections(self, value: str, source: str, parts: str) -> list[str]:
        """Return queries, keys or values, as `parts` says by letter, of the fused layer `source`, before heads.

        Queries come scaled, so that scores are products.
        """
        weights = np.split(self.weight(f"{source}/weight"), len(parts))
        biases = np.split(self.weight(f"{source}/bias"), len(parts))
        scaled, one = np.float32(self.network.head_width**-0.5), np.float32(1)
        kinds = {"q": ("query", scaled), "k": ("key", one), "v": ("value", one)}
        attention = source.split("/")[-2]
        return [
            self.linear(value, weight * kinds[part][1], bias * kinds[part][1], f"{attention}_{kinds[part][0]}")
            for part, weight, bias in zip(parts, weights, biases, strict=True)
        ]

    def mixed(self, value: str, scores: str, contents: str, source: str, shape: str) -> str:
        """Add what the attention mixes of `contents` by `scores` to a value, through the linear layer `source`."""
        name = source.split("/")[-2]
        shares = self.node("Softmax", scores, name=f"{name}_shares", axis=-1)
        mixed = self.node("MatMul", shares, contents, name=f"{name}_mixed")
        mixed = self.node("Transpose", mixed, name=f"{name}_turned", perm=[0, 2, 1, 3])
        mixed = self.node("Reshape", mixed, shape, name=f"{name}_joined")
        mixed = self.linear(mixed, self.weight(f"{source}/weight"), self.weight(f"{source}/bias"), f"{name}_output")
        return self.node("Add", value, mixed, name=f"{name}_residual")

    def heads(self, value: str, shape: str, order: Sequence[int], name: str, output: str = "") -> str:
        """[.., width] -> reshaped to `shape`, [.., heads, head width], and transposed."""
        parted = self.node("Reshape", value, shape, name=f"{name}/reshape")
        return self.node("Transpose", parted, name=f"{name}/transpose", output=output, perm=list(order))

    def size(self, value: str, axis: int, name: str) -> str:
        """Return the length of an axis as int64 [1]."""
        return self.node("Shape", value, name=name, start=axis, end=axis + 1)

    def shape(self, name: str, *sizes: str | int) -> str:
        """Return a shape put together from lengths [1] and numbers."""
        parts = [self.constant(f"size/{s}", [s]) if isinstance(s, int) else s for s in sizes]
        return self.node("Concat", *parts, name=name, axis=0)

    def model(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> ModelProto:
        """Return the whole graph."""
        graph = helper.make_graph(self._nodes, self.name, inputs, outputs, list(self._constants.values()))
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="flotilla")


def tensor(name: str, *shape: Size, kind: int = FLOAT) -> ValueInfoProto:
    """Describe an input or output; a length that is a name is free."""
    return helper.make_tensor_value_info(name, kind, shape)
