"""A GGUF file of the architectures llama and qwen2 as a source.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.export.command import ExportRefusedError
from tools.export.llm.source import GROUP, Array, Grid, Matrix, Shape, Vocabulary
from tools.export.llm.tokenizer import CONTROL, byte_level_tokenizer

ARCHITECTURES = ("llama", "qwen2")
NAMES = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "attention": "attn_norm",
    "feed_forward": "ffn_norm",
}
END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "</s>", "<|end_of_text|>")
"""Control tokens that end an answer even where the file forgets to say so."""


class GgufFile:
    """One GGUF file. ExportRefusedError when it holds another kind of network."""

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader  # noqa: PLC0415 - only in the export environment

        self._reader = GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        architecture = self._get("general.architecture")
        if architecture not in ARCHITECTURES:
            raise ExportRefusedError(f"architecture {architecture!r} is not one of {', '.join(ARCHITECTURES)}")
        self._architecture = str(architecture)
        self.shape = self._shape()

    def projection(self, layer: int, name: str) -> tuple[Matrix, Array | None]:
        """Return weights and bias of one projection."""
        stem = f"blk.{layer}.{NAMES[name]}"
        values = self._dense(f"{stem}.weight")
        bias = self._dense(f"{stem}.bias") if f"{stem}.bias" in self._tensors else None
        return Matrix(values, self._grid(f"{stem}.weight")), bias

    def norm(self, layer: int, which: str) -> Array:
        """Return the weights of a norm."""
        return self._dense(f"blk.{layer}.{NAMES[which]}.weight")

    def final_norm(self) -> Array:
        """Return the weights of the last norm."""
        return self._dense("output_norm.weight")

    def embedding(self) -> Array:
        """Return the token embeddings."""
        return self._dense("token_embd.weight")

    def head(self) -> Array | None:
        """Return the output weights, None when they are the embeddings."""
        return self._dense("output.weight") if "output.weight" in self._tensors else None

    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary."""
        tokens = self._tokenizer_fact("tokens")
        kinds = self._tokenizer_fact("token_type")
        eos = self._tokenizer_fact("eos_token_id")
        if eos is None:
            raise ExportRefusedError("the file names no token that ends an answer")
        named = {self._tokenizer_fact(key) for key in ("eot_token_id", "eom_token_id")} - {None}
        known = {tokens.index(text) for text in END_OF_TURN if text in tokens}
        ends = {eos} | named | {token for token in known if kinds[token] == CONTROL}
        pad = self._tokenizer_fact("padding_token_id")
        return Vocabulary(
            tokens=tokens,
            eos=eos,
            eos_ids=tuple(sorted(ends)),
            bos=self._tokenizer_fact("bos_token_id"),
            pad=eos if pad is None else pad,
            unknown=self._tokenizer_fact("unknown_token_id"),
            adds_bos=bool(self._tokenizer_fact("add_bos_token")),
            chat_template=self._get("tokenizer.chat_template"),
        )

    def tokenizer(self) -> Any:
        """Return the tokenizer."""
        kind = self._tokenizer_fact("model")
        if kind != "gpt2":
            raise ExportRefusedError(f"vocabularies of type {kind!r} cannot be rebuilt from a GGUF file, only 'gpt2'")
        return byte_level_tokenizer(
            self._tokenizer_fact("tokens"),
            self._tokenizer_fact("token_type"),
            self._tokenizer_fact("merges"),
            self._tokenizer_fact("pre") or "default",
        )

    def _get(self, key: str, default: Any = None) -> Any:
        return self._reader.fields[key].contents() if key in self._reader.fields else default

    def _fact(self, key: str, default: Any = None) -> Any:
        return self._get(f"{self._architecture}.{key}", default)

    def _tokenizer_fact(self, key: str) -> Any:
        return self._get(f"tokenizer.ggml.{key}")

    def _shape(self) -> Shape:
        if self._fact("expert_count"):
            raise ExportRefusedError("mixtures of experts are not supported")
        heads, hidden = self._fact("attention.head_count"), self._fact("embedding_length")
        if not isinstance(heads, int):
            raise ExportRefusedError("head counts that differ between layers are not supported")
        head_size = self._fact("attention.key_length") or hidden // heads
        return Shape(
            layers=self._fact("block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=self._fact("attention.head_count_kv", heads),
            head_size=head_size,
            feed_forward=self._fact("feed_forward_length"),
            vocabulary=len(self._tokenizer_fact("tokens")),
            context=self._fact("context_length"),
            epsilon=float(self._fact("attention.layer_norm_rms_epsilon")),
            rope_theta=float(self._fact("rope.freq_base", 10000.0)),
            rope_divisors=self._rope_divisors(head_size),
            rope_interleaved=self._architecture == "llama",
        )

    def _rope_divisors(self, head_size: int) -> Array | None:
        kind = self._fact("rope.scaling.type", "none")
        if kind not in (None, "none", "linear"):
            raise ExportRefusedError(f"rope scaling {kind!r} is not supported")
        if "rope_freqs.weight" in self._tensors:
            return self._dense("rope_freqs.weight")
        if kind == "linear":
            return np.full(head_size // 2, self._fact("rope.scaling.factor", 1.0), dtype=np.float32)
        return None

    def _dense(self, name: str) -> Array:
        from gguf import dequantize  # noqa: PLC0415

        tensor = self._tensors[name]
        shape = [int(size) for size in tensor.shape][::-1]
        return np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32).reshape(shape)

    def _grid(self, name: str) -> Grid | None:
        tensor = self._tensors[name]
        kind = tensor.tensor_type.name
        return four_bit_grid(np.asarray(tensor.data), kind) if kind in ("Q4_0", "Q4_1") else None


def four_bit_grid(blocks: NDArray[np.uint8], kind: str) -> Grid:
    """Return the grid of Q4_0 or Q4_1 bytes [out, bytes]: a block of 32 is scale, (least value,) and nibbles.

    The low nibbles are the first 16 weights, the high ones the others. Q4_0 is (n - 8) scale, Q4_1 n scale + least.
    """
    head = 2 if kind == "Q4_0" else 4
    rows = blocks.shape[0]
    block = np.ascontiguousarray(blocks).reshape(rows, -1, head + GROUP // 2)
    facts, nibbles = block[..., :head], block[..., head:]
    numbers = np.ascontiguousarray(facts).view(np.float16)
    values = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=-1)
    scale = numbers[..., :1].copy()
    if kind == "Q4_0":
        return Grid(values, scale, np.full_like(scale, 8))
    least = numbers[..., 1:]
    flat = scale == 0  # all 32 weights are `least`
    values[flat[..., 0]] = 1
    scale = np.where(flat, least, scale)
    divisor = np.where(scale == 0, np.float16(1), scale).astype(np.float32)
    zero = np.where(flat, np.float32(0), -least.astype(np.float32) / divisor)
    return Grid(values, scale, zero.astype(np.float16))
