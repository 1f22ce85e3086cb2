"""Write a Whisper as two plain ONNX graphs, for engines that know no Whisper: an encoder and a step of the decoder.

Runs in the environment `export-graphs`: `python -m tools.export.whisper_graphs --source DIR --out DIR --facts JSON`.

encoder.onnx, once for a window:
  mel [windows, mels, frames] -> cross_key_<layer> [windows, heads, head width, audio_positions],
                                 cross_value_<layer> [windows, heads, audio_positions, head width]
decoder.onnx, for the prompt, for every token and for the times of words:
  tokens int32 [rows, steps], rows being the same number of hypotheses for each window, window by window;
  positions int32 [steps], of the tokens, the same in all rows; wanted int32 [answers], the steps whose logits are asked
  for; parents int32 [rows], the row of the past that each row goes on from; cross_*; past_key_<layer> and
  past_value_<layer> [past_rows, heads, capacity, head width], a buffer that is never longer or shorter
  -> logits [rows, answers, vocabulary], scores [windows, alignment heads, queries, audio_positions] of the attention to
  the sound before its softmax, a query for every row and step; present_key_<layer>, present_value_<layer>, the buffer
  with these tokens in their places.
With `steps` 1 all shapes are fixed by the number of windows and rows and the capacity: one CUDA graph for each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from tools.export.command import run_exporter, versions
from tools.export.whisper_layers import INT, MASKED, OPSET, Graph, tensor
from tools.export.whisper_weights import Network, read_network

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


def encoder(network: Network) -> ModelProto:
    """Return the graph from sound to what the decoder attends to."""
    graph = Graph("encoder", network)
    graph.block = "sound"
    value = "mel"
    for number, stride in ((1, 1), (2, 2)):
        place = f"encoder/conv{number}"
        parameters = [graph.constant(f"{place}/{part}", graph.weight(f"{place}/{part}")) for part in ("weight", "bias")]
        value = graph.node("Conv", value, *parameters, name=f"conv{number}", pads=[1, 1], strides=[stride])
        value = graph.gelu(value, f"conv{number}_gelu")
    value = graph.node("Transpose", value, name="transpose", perm=[0, 2, 1])
    length = graph.size(value, 1, "length")
    table = graph.constant("audio_position_table", graph.weight("encoder/position_encodings/encodings"))
    first = graph.constant("size/0", [0])
    places = graph.node("Slice", table, first, length, first, name="places")
    value = graph.node("Add", value, places, name="add_places")
    split = graph.constant("split", [0, 0, network.heads, network.head_width])
    for layer in range(network.encoder_layers):
        graph.block = f"layer_{layer}"
        value = _self_attention(graph, value, f"encoder/layer_{layer}/self_attention", split)
        value = graph.feed_forward(value, f"encoder/layer_{layer}/ffn")
    graph.block = "memory"
    value = graph.norm(value, "encoder/layer_norm", "norm")
    outputs = []
    for layer in range(network.decoder_layers):
        graph.block = f"memory_{layer}"
        key, content = graph.projections(value, f"decoder/layer_{layer}/attention/linear_1", "kv")
        graph.heads(key, split, (0, 2, 3, 1), "key", f"cross_key_{layer}")
        graph.heads(content, split, (0, 2, 1, 3), "value", f"cross_value_{layer}")
        outputs += _cross(network, layer)
    return graph.model([tensor("mel", "windows", network.mels, "frames")], outputs)


def decoder(network: Network) -> ModelProto:
    """Return the graph from tokens and the past to logits and the present."""
    graph = Graph("decoder", network)
    graph.block = "tokens"
    embeddings = graph.constant("embeddings", graph.weight("decoder/embeddings/weight"))
    table = graph.constant("position_table", graph.weight("decoder/position_encodings/encodings"))
    words = graph.node("Gather", embeddings, "tokens", name="words", axis=0)
    value = graph.node("Add", words, graph.node("Gather", table, "positions", name="places", axis=0), name="add_places")
    step = _Step(graph)
    inputs = [
        tensor("tokens", "rows", "steps", kind=INT),
        tensor("positions", "steps", kind=INT),
        tensor("wanted", "answers", kind=INT),
        tensor("parents", "rows", kind=INT),
    ]
    presents, scores = [], []
    for layer in range(network.decoder_layers):
        graph.block = f"layer_{layer}"
        value = step.self_attention(value, layer)
        value, seen = step.cross_attention(value, layer)
        value = graph.feed_forward(value, f"decoder/layer_{layer}/ffn")
        if own := [head for number, head in network.alignment_heads if number == layer]:
            kept = graph.constant(f"alignment_heads_{layer}", own)
            scores.append(graph.node("Gather", seen, kept, name="alignment", axis=1))
        inputs += [*_cross(network, layer), *_cache(network, layer, "past", "past_rows")]
        presents += _cache(network, layer, "present", "rows")
    graph.block = "answer"
    graph.node("Concat", *scores, name="scores", output="scores", axis=1)
    value = graph.node("Gather", value, "wanted", name="wanted", axis=1)
    value = graph.norm(value, "decoder/layer_norm", "norm")
    flat = graph.node("Reshape", value, graph.constant("flat", [-1, network.width]), name="flat")
    logits = graph.node("Gemm", flat, embeddings, name="projection", transB=1)
    shape = graph.shape("shape", step.rows, -1, network.vocabulary)
    graph.node("Reshape", logits, shape, name="split", output="logits")
    outputs = [
        tensor("logits", "rows", "answers", network.vocabulary),
        tensor("scores", "windows", len(network.alignment_heads), "queries", "audio_positions"),
        *presents,
    ]
    return graph.model(inputs, outputs)


class _Step:
    """The attentions of the decoder, and what all its layers have in common."""

    def __init__(self, graph: Graph) -> None:
        self.graph, network = graph, graph.network
        self.rows = graph.size("tokens", 0, "rows")
        windows = graph.size("cross_key_0", 0, "windows")
        self.split = graph.constant("split", [0, 0, network.heads, network.head_width])
        self.joined = graph.constant("join", [0, 0, network.width])
        # the rows of a window are as many queries to the one copy of its sound
        self.by_window = graph.shape("by_window", windows, -1, network.heads, network.head_width)
        self.by_row = graph.shape("by_row", self.rows, -1, network.width)
        slots = graph.constant("slots", np.arange(network.positions, dtype=np.int32))
        first = graph.constant("size/0", [0])
        capacity = graph.size("past_key_0", 2, "capacity")
        slots = graph.node("Slice", slots, first, capacity, first, name="slots")
        ends = graph.node("Unsqueeze", "positions", graph.constant("size/1", [1]), name="ends")
        self.visible = graph.node("LessOrEqual", slots, ends, name="visible")
        self.written = graph.node(
            "Reshape", "positions", graph.constant("written_shape", [1, 1, -1, 1]), name="written"
        )

    def self_attention(self, value: str, layer: int) -> str:
        graph, source = self.graph, f"decoder/layer_{layer}/self_attention"
        inner = graph.norm(value, f"{source}/layer_norm", "self_norm")
        query, key, content = graph.projections(inner, f"{source}/linear_0", "qkv")
        query = graph.heads(query, self.split, (0, 2, 1, 3), "self_query")
        keys, contents = self._kept(key, layer, "key"), self._kept(content, layer, "value")
        turned = graph.node("Transpose", keys, name="self_keys", perm=[0, 1, 3, 2])
        scores = graph.node("MatMul", query, turned, name="self_scores")
        masked = graph.constant("masked", MASKED)
        scores = graph.node("Where", self.visible, scores, masked, name="self_masked")
        return graph.mixed(value, scores, contents, f"{source}/linear_1", self.joined)

    def cross_attention(self, value: str, layer: int) -> tuple[str, str]:
        graph, source = self.graph, f"decoder/layer_{layer}/attention"
        inner = graph.norm(value, f"{source}/layer_norm", "cross_norm")
        (query,) = graph.projections(inner, f"{source}/linear_0", "q")
        query = graph.heads(query, self.by_window, (0, 2, 1, 3), "cross_query")
        scores = graph.node("MatMul", query, f"cross_key_{layer}", name="cross_scores")
        return graph.mixed(value, scores, f"cross_value_{layer}", f"{source}/linear_2", self.by_row), scores

    def _kept(self, new: str, layer: int, part: str) -> str:
        """Write new keys or values into the rows of the past that these rows go on from."""
        graph = self.graph
        new = graph.heads(new, self.split, (0, 2, 1, 3), f"self_{part}")
        past = graph.node("Gather", f"past_{part}_{layer}", "parents", name=f"{part}_past", axis=0)
        index = graph.node("Expand", self.written, graph.node("Shape", new, name=f"{part}_shape"), name=f"{part}_index")
        output = f"present_{part}_{layer}"
        return graph.node("ScatterElements", past, index, new, name=f"{part}_present", output=output, axis=2)


def _self_attention(graph: Graph, value: str, source: str, split: str) -> str:
    inner = graph.norm(value, f"{source}/layer_norm", "self_norm")
    query, key, content = graph.projections(inner, f"{source}/linear_0", "qkv")
    query = graph.heads(query, split, (0, 2, 1, 3), "query")
    key = graph.heads(key, split, (0, 2, 3, 1), "key")
    content = graph.heads(content, split, (0, 2, 1, 3), "value")
    scores = graph.node("MatMul", query, key, name="scores")
    joined = graph.constant("join", [0, 0, graph.network.width])
    return graph.mixed(value, scores, content, f"{source}/linear_1", joined)


def _cross(network: Network, layer: int) -> list[Any]:
    return [
        tensor(f"cross_key_{layer}", "windows", network.heads, network.head_width, "audio_positions"),
        tensor(f"cross_value_{layer}", "windows", network.heads, "audio_positions", network.head_width),
    ]


def _cache(network: Network, layer: int, when: str, rows: str) -> list[Any]:
    shape = (rows, network.heads, "capacity", network.head_width)
    return [tensor(f"{when}_{part}_{layer}", *shape) for part in ("key", "value")]


def export(source: Path, out: Path, _facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write both graphs from model.bin and config.json; they are small enough for one file each."""
    network = read_network(source)
    for name, graph in ((ENCODER, encoder(network)), (DECODER, decoder(network))):
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, out / name)
    return {"opset": OPSET, "tools": versions(("onnx", "numpy"))}


if __name__ == "__main__":
    sys.exit(run_exporter(export, __doc__))
