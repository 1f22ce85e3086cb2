"""A network's weights as one safetensors file in bfloat16, and the config.json that goes with it, for vLLM.

Four-bit weights are written out; numpy has no bfloat16, so the file is put together here.
Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tools.export.command import ExportRefusedError
from tools.export.llm.safetensors_folder import NAMES
from tools.export.llm.source import PROJECTIONS, Array, Weights

WEIGHTS, CONFIG = "vllm.safetensors", "vllm_config.json"
Tensors = dict[str, tuple[tuple[int, ...], Callable[[], Array]]]
"""By name: the shape, and the values when they are written, so that only one tensor is in memory."""


def write_for_vllm(source: Weights, source_folder: Path, out: Path) -> None:
    """Write weights and description; a folder of safetensors has a description, for others it is the export's."""
    own = source_folder / "config.json"
    described = json.loads((own if own.is_file() else out / "config.json").read_text(encoding="utf-8"))
    (out / CONFIG).write_text(json.dumps(describe(source, described), indent=1) + "\n", encoding="utf-8")
    write_weights(source, out / WEIGHTS)


def write_weights(source: Weights, path: Path) -> None:
    """Write all weights of `source` under the names that Hugging Face's LlamaForCausalLM has."""
    tensors = _tensors(source)
    header, end = {}, 0
    for name, (shape, _) in tensors.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, values in tensors.values():
            _write(values(), file)


def describe(source: Weights, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json, `described`, with what it must say of the weights.

    ExportRefusedError for rotary frequencies that it does not say.
    """
    if source.shape.rope_divisors is not None and not described.get("rope_scaling"):
        raise ExportRefusedError("the rotary frequencies are scaled in a way that config.json cannot say to vLLM")
    named: dict[str, Any] = {}
    if described.get("model_type") == "llama" and source.projection(0, "q")[1] is not None:
        named = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    return {**described, **named, "torch_dtype": "bfloat16"}


def to_bfloat16(values: Array) -> NDArray[np.uint16]:
    """Return float32 values as bfloat16, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, dtype=np.uint16)


def _write(values: Array, file: BinaryIO) -> None:
    file.write(to_bfloat16(values).tobytes())


def _tensors(source: Weights) -> Tensors:
    embedding, head = source.embedding(), source.head()
    tensors: Tensors = {
        "model.embed_tokens.weight": (embedding.shape, source.embedding),
        "model.norm.weight": (source.final_norm().shape, source.final_norm),
    }
    if head is not None:
        tensors["lm_head.weight"] = (head.shape, lambda: head)
    for layer in range(source.shape.layers):
        tensors.update(_layer(source, layer))
    return tensors


def _layer(source: Weights, layer: int) -> Tensors:
    stem, size = f"model.layers.{layer}", source.shape.head_size
    tensors: Tensors = {}
    for name in PROJECTIONS:
        turned = name in ("q", "k") and source.shape.rope_interleaved

        def weights(name: str = name, turned: bool = turned) -> Array:
            values = source.projection(layer, name)[0].values
            return _halves(values, size) if turned else values

        matrix, bias = source.projection(layer, name)
        tensors[f"{stem}.{NAMES[name]}.weight"] = matrix.values.shape, weights
        if bias is not None:
            values = _halves(bias[:, None], size)[:, 0] if turned else bias
            tensors[f"{stem}.{NAMES[name]}.bias"] = values.shape, partial(np.asarray, values)
    for which in ("attention", "feed_forward"):
        norm = source.norm(layer, which)
        tensors[f"{stem}.{NAMES[which]}.weight"] = norm.shape, partial(np.asarray, norm)
    return tensors


def _halves(values: Array, head_size: int) -> Array:
    """Return rows [heads * size, in] of q or k whose rotary pairs are neighbours with pairs as halves of a head."""
    pairs = values.reshape(-1, head_size // 2, 2, values.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
