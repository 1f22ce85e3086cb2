"""The network as a stateful OpenVINO graph with compressed weights, as OpenVINO GenAI's pipelines expect it.

input_ids, attention_mask, position_ids (int64 [batch, tokens]) and beam_idx (int32 [batch]) in, logits out. The KV
cache is state; GenAI turns its attention (ReadValue, Gather, Concat, ScaledDotProductAttention) into paged attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from tools.export.llm.source import Array, Grid, Matrix, Shape, Weights

MASKED = float(np.finfo(np.float16).min)
Node = Any


def build(source: Weights) -> Any:
    """Return the `openvino.Model` of a source."""
    return _Builder(source).model()


class _Builder:
    """The nodes that all layers share, and what has been built so far."""

    def __init__(self, source: Weights) -> None:
        self.source, self.shape = source, source.shape
        self.ids, self.mask, self.positions = (
            _parameter(name, np.int64, [-1, -1]) for name in ("input_ids", "attention_mask", "position_ids")
        )
        self.beams = _parameter("beam_idx", np.int32, [-1])
        self.batch, self.new = (_length(self.ids, axis) for axis in (0, 1))
        self.total = _length(self.mask, 1)
        self.cos, self.sin = self._rotations()
        self.attendable = self._attendable()
        self.assignments: list[Node] = []

    def model(self) -> Any:
        embedding = compressed(Matrix(self.source.embedding()))
        x = op.gather(embedding, op.convert(self.ids, "i32"), op.constant(np.int32(0)))
        for layer in range(self.shape.layers):
            x = op.add(x, self._attention(layer, self._norm(x, self.source.norm(layer, "attention"))))
            x = op.add(x, self._feed_forward(layer, self._norm(x, self.source.norm(layer, "feed_forward"))))
        head = self.source.head()
        weights = embedding if head is None else compressed(Matrix(head))
        logits = op.matmul(self._norm(x, self.source.final_norm()), weights, False, True)
        logits.output(0).set_names({"logits"})
        result = op.result(logits)
        result.set_friendly_name("logits")
        return ov.Model([result], self.assignments, [self.ids, self.mask, self.positions, self.beams], "llama")

    def _attention(self, layer: int, x: Node) -> Node:
        s = self.shape
        q = self._rotate(self._heads(self._linear(layer, "q", x), s.heads))
        k = self._rotate(self._heads(self._linear(layer, "k", x), s.kv_heads))
        v = self._heads(self._linear(layer, "v", x), s.kv_heads)
        k, v = (self._repeat(self._remember(layer, name, new)) for name, new in (("key", k), ("value", v)))
        scale = op.constant(np.float32(s.head_size**-0.5))
        mixed = op.scaled_dot_product_attention(q, k, v, self.attendable, scale, causal=False)
        joined = op.reshape(op.transpose(mixed, _ints(0, 2, 1, 3)), _ints(0, 0, s.heads * s.head_size), True)
        return self._linear(layer, "o", joined)

    def _feed_forward(self, layer: int, x: Node) -> Node:
        gate, up = self._linear(layer, "gate", x), self._linear(layer, "up", x)
        return self._linear(layer, "down", op.multiply(op.swish(gate), up))

    def _linear(self, layer: int, name: str, x: Node) -> Node:
        weights, bias = self.source.projection(layer, name)
        if name in ("q", "k") and self.shape.rope_interleaved:
            order = halves_first(weights.values.shape[0], self.shape.head_size)
            weights, bias = weights.rows(order), None if bias is None else bias[order]
        y = op.matmul(x, compressed(weights), False, True)
        return y if bias is None else op.add(y, op.constant(bias))

    def _norm(self, x: Node, weights: Array) -> Node:
        mean = op.reduce_mean(op.power(x, op.constant(np.float32(2))), _ints(-1), True)
        root = op.sqrt(op.add(mean, op.constant(np.float32(self.shape.epsilon))))
        scaled = op.multiply(x, op.divide(op.constant(np.float32(1)), root))
        return op.multiply(op.constant(weights.reshape(1, 1, -1)), scaled)

    def _heads(self, x: Node, count: int) -> Node:
        """[batch, tokens, count * size] -> [batch, count, tokens, size]."""
        return op.transpose(op.reshape(x, _ints(0, 0, count, self.shape.head_size), True), _ints(0, 2, 1, 3))

    def _remember(self, layer: int, name: str, new: Node) -> Node:
        """Append to the cache of earlier tokens and return all of them."""
        s, variable = self.shape, f"past_key_values.{layer}.{name}present.{layer}.{name}"
        empty = op.concat([self.batch, _ints(s.kv_heads, 0, s.head_size)], 0)
        start = op.broadcast(op.constant(np.float32(0)), empty)
        past = op.read_value(start, variable, np.float32, [-1, s.kv_heads, -1, s.head_size])
        both = op.concat([op.gather(past, self.beams, op.constant(np.int32(0))), new], 2)
        self.assignments.append(op.assign(both, variable))
        return both

    def _repeat(self, x: Node) -> Node:
        """Give every query head its keys or values: [batch, kv_heads, ...] -> [batch, heads, ...]."""
        s = self.shape
        if s.heads == s.kv_heads:
            return x
        shape = op.concat([self.batch, _ints(s.kv_heads, s.heads // s.kv_heads), _length(x, 2), _ints(s.head_size)], 0)
        wide = op.broadcast(op.unsqueeze(x, _ints(2)), shape, "BIDIRECTIONAL")
        return op.reshape(wide, _ints(0, s.heads, -1, s.head_size), True)

    def _rotations(self) -> tuple[Node, Node]:
        frequencies = op.constant(self.shape.frequencies().reshape(1, -1, 1))
        places = op.convert(op.unsqueeze(self.positions, _ints(1)), "f32")
        angles = op.transpose(op.matmul(frequencies, places, False, False), _ints(0, 2, 1))
        both = op.concat([angles, angles], -1)
        return op.unsqueeze(op.cos(both), _ints(1)), op.unsqueeze(op.sin(both), _ints(1))

    def _rotate(self, x: Node) -> Node:
        size = self.shape.head_size
        first = op.slice(x, _ints(0), _ints(size // 2), _ints(1), _ints(3))
        second = op.slice(x, _ints(size // 2), _ints(size), _ints(1), _ints(3))
        turned = op.concat([op.negative(second), first], -1)
        return op.add(op.multiply(x, self.cos), op.multiply(turned, self.sin))

    def _attendable(self) -> Node:
        """Return the additive mask [batch, 1, new, total]: what is masked out or comes later is far below zero."""
        rows = op.add(op.unsqueeze(_range(self.new), _ints(1)), op.subtract(self.total, self.new))
        causal = op.less_equal(op.unsqueeze(_range(self.total), _ints(0)), rows)
        given = op.not_equal(op.unsqueeze(op.unsqueeze(self.mask, _ints(1)), _ints(1)), _ints(0))
        keep = op.logical_and(op.unsqueeze(op.unsqueeze(causal, _ints(0)), _ints(0)), given)
        return op.select(keep, op.constant(np.float32(0)), op.constant(np.float32(MASKED)))


def halves_first(rows: int, head_size: int) -> NDArray[np.int64]:
    """Return the order of rows that turns rotary pairs of neighbours into pairs of halves, head by head."""
    return np.arange(rows).reshape(-1, head_size // 2, 2).swapaxes(1, 2).reshape(-1)


def compressed(matrix: Matrix) -> Node:
    """Return a node that gives the weights in float32 and stores four bits where the file has four, eight otherwise."""
    return _eight_bits(matrix.values) if matrix.grid is None else _four_bits(matrix.grid)


def _eight_bits(values: Array) -> Node:
    """Round to the nearest of 255 steps of each row."""
    scale = np.abs(values).max(axis=1, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float16)
    steps = np.clip(np.rint(values / scale.astype(np.float32)), -127, 127).astype(np.int8)
    return op.convert(op.multiply(op.convert(op.constant(steps), "f16"), op.constant(scale)), "f32")


def _four_bits(grid: Grid) -> Node:
    rows, groups, size = grid.values.shape
    centred = op.subtract(op.convert(_nibbles(grid.values), "f16"), op.constant(grid.zero))
    scaled = op.multiply(centred, op.constant(grid.scale))
    return op.convert(op.reshape(scaled, _ints(rows, groups * size), False), "f32")


def _nibbles(values: NDArray[np.uint8]) -> Node:
    """Return a constant of type u4: two values in a byte, the first in the low half."""
    flat = values.reshape(-1)
    tensor = ov.Tensor(ov.Type.u4, ov.Shape(list(values.shape)))
    tensor.data.reshape(-1)[:] = flat[0::2] | (flat[1::2] << 4)
    return ov.op.Constant(tensor)


def _parameter(name: str, kind: type, shape: list[int]) -> Node:
    node = op.parameter(shape, kind)
    node.set_friendly_name(name)
    node.output(0).set_names({name})
    return node


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, dtype=np.int64))


def _length(x: Node, axis: int) -> Node:
    return op.gather(op.shape_of(x), _ints(axis), _ints(0))


def _range(count: Node) -> Node:
    zero, one = op.constant(np.int64(0)), op.constant(np.int64(1))
    return op.range(zero, op.squeeze(count, _ints(0)), one, "i64")


class RandomWeights:
    """One small layer of random weights over a vocabulary: the grammar model, of which only the vocabulary counts."""

    def __init__(self, vocabulary: int, context: int, size: int = 64) -> None:
        self.shape = Shape(1, size, 1, 1, size, size, vocabulary, context, 1e-5, 10000.0)
        self._random = np.random.default_rng(0)

    def projection(self, layer: int, name: str) -> tuple[Matrix, None]:
        """Return weights and bias of one projection."""
        return Matrix(self._weights(self.shape.hidden)), None

    def norm(self, layer: int, which: str) -> Array:
        """Return the weights of a norm."""
        return np.ones(self.shape.hidden, dtype=np.float32)

    def final_norm(self) -> Array:
        """Return the weights of the last norm."""
        return np.ones(self.shape.hidden, dtype=np.float32)

    def embedding(self) -> Array:
        """Return the token embeddings."""
        return self._weights(self.shape.vocabulary)

    def head(self) -> Array | None:
        """Return the output weights, None when they are the embeddings."""
        return None

    def _weights(self, rows: int) -> Array:
        return self._random.standard_normal((rows, self.shape.hidden), dtype=np.float32)
