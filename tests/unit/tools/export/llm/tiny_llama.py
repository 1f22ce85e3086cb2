"""Tiny random networks, written as GGUF and as safetensors; no network access, no torch."""

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]

LAYERS, HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, VOCABULARY = 2, 64, 4, 2, 96, 40
HEAD_SIZE = HIDDEN // HEADS
NAMES = {
    "self_attn.q_proj": ("attn_q", HIDDEN, HIDDEN),
    "self_attn.k_proj": ("attn_k", KV_HEADS * HEAD_SIZE, HIDDEN),
    "self_attn.v_proj": ("attn_v", KV_HEADS * HEAD_SIZE, HIDDEN),
    "self_attn.o_proj": ("attn_output", HIDDEN, HIDDEN),
    "mlp.gate_proj": ("ffn_gate", FEED_FORWARD, HIDDEN),
    "mlp.up_proj": ("ffn_up", FEED_FORWARD, HIDDEN),
    "mlp.down_proj": ("ffn_down", HIDDEN, FEED_FORWARD),
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def tensors(biases: bool = False, own_head: bool = False) -> Tensors:
    """Return random weights under the names of transformers."""
    random = np.random.default_rng(3)

    def normal(*shape: int, deviation: float = 0.3) -> NDArray[np.float32]:
        return random.normal(0, deviation, shape).astype(np.float32)

    made = {"model.embed_tokens.weight": normal(VOCABULARY, HIDDEN), "model.norm.weight": 1 + normal(HIDDEN)}
    if own_head:
        made["lm_head.weight"] = normal(VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        made |= {f"{stem}.{name}.weight": 1 + normal(HIDDEN) for name in NORMS}
        for name, (_, rows, columns) in NAMES.items():
            made[f"{stem}.{name}.weight"] = normal(rows, columns)
            if biases and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                made[f"{stem}.{name}.bias"] = normal(rows)
    return made


def neighbours(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Bring rotary pairs together as llama.cpp's converter does (`LlamaModel.permute`)."""
    shape = values.shape
    return values.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def write_gguf(path: Path, weights: Tensors, kinds: dict[str, str], architecture: str = "llama", **facts: Any) -> None:
    """Write a GGUF file; `kinds` gives the quantisation of names, F32 by default."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"<{n}>" if n < 3 else chr(94 + n) for n in range(VOCABULARY)])
    writer.add_token_types([3 if n < 3 else 1 for n in range(VOCABULARY)])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(2)
    for key, value in facts.items():
        getattr(writer, key)(value)
    for name, values in _gguf_names(weights, architecture).items():
        kind = gguf.GGMLQuantizationType[kinds.get(name.split(".")[-2], "F32")]
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_names(weights: Tensors, architecture: str) -> Tensors:
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    renamed = {}
    for name, values in weights.items():
        if name in names:
            renamed[names[name]] = values
            continue
        _, _, layer, rest = name.split(".", 3)
        stem, ending = rest.rsplit(".", 1)
        own = NORMS[stem] if stem in NORMS else NAMES[stem][0]
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(own)
        permuted = neighbours(values, heads) if heads and architecture == "llama" else values
        renamed[f"blk.{layer}.{own}.{ending}"] = permuted
    return renamed


def write_safetensors(folder: Path, weights: Tensors, kind: str = "F32", **config: Any) -> None:
    """Write config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, content = {}, b""
    for name, values in weights.items():
        if kind == "BF16":
            data = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        else:
            data = values.astype({"F32": np.float32, "F16": np.float16, "F64": np.float64}[kind]).tobytes()
        entries[name] = {
            "dtype": kind,
            "shape": list(values.shape),
            "data_offsets": [len(content), len(content) + len(data)],
        }
        content += data
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content)
    facts = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": FEED_FORWARD,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000.0,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(facts | config))
