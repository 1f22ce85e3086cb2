"""`python -m tools.benchmark.vllm_weights FILE FOLDER`: a GGUF file as a folder for vLLM. Runs in its environment."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tools.export.llm.gguf_file import GgufFile
from tools.export.llm.source import Array, Shape

_PROJECTIONS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_NORMS = {"attention": "input_layernorm", "feed_forward": "post_attention_layernorm"}


def main(file: Path, folder: Path) -> None:
    """Write the configuration and the weights, dequantised to float32."""
    source = GgufFile(file)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(_tensors(source)), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_config(source.shape, source.head() is None, source)))


def _tensors(source: GgufFile) -> Iterator[tuple[str, Array]]:
    shape = source.shape
    yield "model.embed_tokens.weight", source.embedding()
    yield "model.norm.weight", source.final_norm()
    if (head := source.head()) is not None:
        yield "lm_head.weight", head
    for layer in range(shape.layers):
        for name, module in _PROJECTIONS.items():
            values = source.projection(layer, name)[0].values
            if name in ("q", "k") and shape.rope_interleaved:
                values = _halves(values, shape.head_size)
            yield f"model.layers.{layer}.{module}.weight", np.ascontiguousarray(values)
        for which, module in _NORMS.items():
            yield f"model.layers.{layer}.{module}.weight", source.norm(layer, which)


def _halves(values: Array, head_size: int) -> Array:
    """Return q or k weights with rotary pairs as halves of a head instead of neighbours."""
    pairs = values.reshape(-1, head_size // 2, 2, values.shape[1])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _config(shape: Shape, tied: bool, source: GgufFile) -> dict[str, object]:
    vocabulary = source.vocabulary()
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": tied,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "torch_dtype": "float32",
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
