"""A folder with config.json, safetensors and tokenizer.json, of the model types llama and qwen2, as a source.

Format: https://huggingface.co/docs/safetensors; read here because numpy has no bfloat16.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tools.export.command import ExportRefusedError
from tools.export.llm.source import Array, Matrix, Shape, Vocabulary

MODEL_TYPES = ("llama", "qwen2")
NAMES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "attention": "input_layernorm",
    "feed_forward": "post_attention_layernorm",
}
FLOATS = {"F16": np.float16, "F32": np.float32}


class SafetensorsFolder:
    """One folder. ExportRefusedError when it holds another kind of network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = self._read("config.json")
        kind = self._config.get("model_type")
        if kind not in MODEL_TYPES:
            raise ExportRefusedError(f"model type {kind!r} is not one of {', '.join(MODEL_TYPES)}")
        if self._config.get("hidden_act", "silu") != "silu" or self._config.get("use_sliding_window"):
            raise ExportRefusedError("only SiLU and attention over the whole context are supported")
        self._entries = {
            name: (path, start, entry)
            for path in sorted(folder.glob("*.safetensors"))
            for name, start, entry in header(path)
        }
        self.shape = self._shape()

    def projection(self, layer: int, name: str) -> tuple[Matrix, Array | None]:
        """Return weights and bias of one projection."""
        stem = f"model.layers.{layer}.{NAMES[name]}"
        bias = self._dense(f"{stem}.bias") if f"{stem}.bias" in self._entries else None
        return Matrix(self._dense(f"{stem}.weight")), bias

    def norm(self, layer: int, which: str) -> Array:
        """Return the weights of a norm."""
        return self._dense(f"model.layers.{layer}.{NAMES[which]}.weight")

    def final_norm(self) -> Array:
        """Return the weights of the last norm."""
        return self._dense("model.norm.weight")

    def embedding(self) -> Array:
        """Return the token embeddings."""
        return self._dense("model.embed_tokens.weight")

    def head(self) -> Array | None:
        """Return the output weights, None when they are the embeddings."""
        tied = self._config.get("tie_word_embeddings") or "lm_head.weight" not in self._entries
        return None if tied else self._dense("lm_head.weight")

    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary."""
        generation, facts = self._read("generation_config.json"), self._read("tokenizer_config.json")
        ends = generation.get("eos_token_id", self._config.get("eos_token_id"))
        if ends is None:
            raise ExportRefusedError("config.json names no token that ends an answer")
        ends = ends if isinstance(ends, list) else [ends]
        tokenizer = self.tokenizer()
        name = facts.get("eos_token")
        name = name.get("content") if isinstance(name, dict) else name
        eos = tokenizer.token_to_id(name) if name else ends[0]
        texts = {number: text for text, number in tokenizer.get_vocab().items()}
        pad = generation.get("pad_token_id")
        return Vocabulary(
            tokens=[texts.get(number, f"<unused{number}>") for number in range(self.shape.vocabulary)],
            eos=eos,
            eos_ids=tuple(sorted({eos, *ends})),
            bos=self._config.get("bos_token_id"),
            pad=eos if pad is None else pad,
            unknown=None,
            adds_bos=bool(facts.get("add_bos_token")),
            chat_template=self._chat_template(facts),
        )

    def tokenizer(self) -> Any:
        """Return the tokenizer."""
        from tokenizers import Tokenizer  # noqa: PLC0415 - only in the export environment

        return Tokenizer.from_file(str(self._folder / "tokenizer.json"))

    def _chat_template(self, facts: dict[str, Any]) -> str | None:
        path = self._folder / "chat_template.jinja"
        return path.read_text(encoding="utf-8") if path.is_file() else facts.get("chat_template")

    def _read(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def _shape(self) -> Shape:
        config = self._config
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        head_size = config.get("head_dim") or hidden // heads
        theta = float(config.get("rope_theta", 10000.0))
        return Shape(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_size=head_size,
            feed_forward=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            epsilon=float(config["rms_norm_eps"]),
            rope_theta=theta,
            rope_divisors=rope_divisors(config.get("rope_scaling"), head_size, theta),
        )

    def _dense(self, name: str) -> Array:
        path, start, entry = self._entries[name]
        first, last = entry["data_offsets"]
        with path.open("rb") as file:
            file.seek(start + first)
            content = file.read(last - first)
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(content, np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] in FLOATS:
            values = np.frombuffer(content, FLOATS[entry["dtype"]]).astype(np.float32)
        else:
            raise ExportRefusedError(f"{name} is {entry['dtype']}; F32, F16 and BF16 are supported")
        return np.asarray(values.reshape(entry["shape"]))


def header(path: Path) -> list[tuple[str, int, dict[str, Any]]]:
    """Return name, start of all data and entry of each tensor in a file."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        if size > path.stat().st_size:
            raise ValueError(f"{path.name} is no safetensors file")
        entries = json.loads(file.read(size))
    return [(name, 8 + size, entry) for name, entry in entries.items() if name != "__metadata__"]


def rope_divisors(scaling: dict[str, Any] | None, head_size: int, theta: float) -> Array | None:
    """Return the divisors of `rope_scaling`, types linear and llama3 (transformers' modeling_rope_utils)."""
    kind = (scaling or {}).get("rope_type", (scaling or {}).get("type", "default"))
    if scaling is None or kind == "default":
        return None
    if kind == "linear":
        return np.full(head_size // 2, scaling["factor"], dtype=np.float32)
    if kind != "llama3":
        raise ExportRefusedError(f"rope scaling {kind!r} is not supported")
    plain = 1.0 / theta ** (np.arange(0, head_size, 2) / head_size)
    waves = 2 * math.pi / plain
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = (original / waves - low) / (high - low)
    between = (1 - smooth) * plain / factor + smooth * plain
    scaled = np.where(waves > original / low, plain / factor, np.where(waves < original / high, plain, between))
    return np.asarray(plain / scaled, dtype=np.float32)
