"""Export a Llama-family model, one GGUF file or a folder of safetensors, for OpenVINO GenAI, and prove the result.

Four-bit weights stay on the file's own grid, all others become eight bits a weight.
Runs in the environment `export-llm`: `python -m tools.export.llm.exporter --source DIR --out DIR --facts JSON`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.export.command import WANTED, ExportRefusedError, run_exporter, versions
from tools.export.llm.bfloat16_weights import WEIGHTS, write_for_vllm
from tools.export.llm.gguf_file import GgufFile
from tools.export.llm.graph import RandomWeights, build
from tools.export.llm.parity import prove
from tools.export.llm.safetensors_folder import SafetensorsFolder
from tools.export.llm.selftest import write_selftest
from tools.export.llm.source import PROJECTIONS, Source, Vocabulary

TOOLS = ("openvino", "openvino-tokenizers", "tokenizers", "transformers", "gguf", "numpy")


def open_source(folder: Path) -> Source:
    """Return the one model in a folder."""
    if (folder / "config.json").is_file():
        return SafetensorsFolder(folder)
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        raise ExportRefusedError(f"{len(files)} GGUF files and no config.json; needed is one of them")
    return GgufFile(files[0])


def check_facts(source: Source, vocabulary: Vocabulary, facts: Mapping[str, Any]) -> None:
    """Refuse when the manifest says something else than the files."""
    pairs = {
        "context_length": (facts["context_length"] <= source.shape.context, source.shape.context),
        "vocabulary_size": (facts["vocabulary_size"] == source.shape.vocabulary, source.shape.vocabulary),
        "eos_token_ids": (sorted(facts["eos_token_ids"]) == sorted(vocabulary.eos_ids), list(vocabulary.eos_ids)),
        "bos_token_id": (facts.get("bos_token_id") == prompt_start(vocabulary), prompt_start(vocabulary)),
    }
    for key, (holds, found) in pairs.items():
        if not holds:
            raise ExportRefusedError(f"{key} is {facts.get(key)} in the manifest and {found} in the files")


def prompt_start(vocabulary: Vocabulary) -> int | None:
    """Return the token that stands before every prompt without a template."""
    return vocabulary.bos if vocabulary.adds_bos else None


def write_descriptions(source: Source, vocabulary: Vocabulary, context: int, out: Path) -> None:
    """Write config.json, generation_config.json and the chat template, if there is one."""
    shape = source.shape
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": context,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_theta,
        "hidden_act": "silu",
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "pad_token_id": vocabulary.pad,
        "tie_word_embeddings": source.head() is None,
    }
    generation = {"eos_token_id": list(vocabulary.eos_ids), "pad_token_id": vocabulary.pad, "do_sample": False}
    for name, document in (("config.json", config), ("generation_config.json", generation)):
        (out / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if vocabulary.chat_template:
        (out / "chat_template.jinja").write_text(vocabulary.chat_template, encoding="utf-8")


def write_tokenizers(tokenizer: Any, vocabulary: Vocabulary, out: Path) -> None:
    """Write tokenizer.json and the same as OpenVINO graphs, from which the engine takes the texts of tokens."""
    import openvino  # noqa: PLC0415 - slow to import
    from openvino_tokenizers import convert_tokenizer  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokenizer.save(str(out / "tokenizer.json"))
    named = {"bos": vocabulary.bos, "eos": vocabulary.eos, "pad": vocabulary.pad, "unk": vocabulary.unknown}
    texts = {f"{name}_token": vocabulary.tokens[token] for name, token in named.items() if token is not None}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **texts)
    graphs = convert_tokenizer(wrapped, with_detokenizer=True)
    for name, graph in zip(("openvino_tokenizer", "openvino_detokenizer"), graphs, strict=True):
        openvino.serialize(graph, str(out / f"{name}.xml"))


def export(source_folder: Path, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write everything serving needs: the graph, its tokenizers, descriptions, self-test and the grammar model."""
    import openvino  # noqa: PLC0415

    source = open_source(source_folder)
    vocabulary, tokenizer = source.vocabulary(), source.tokenizer()
    check_facts(source, vocabulary, facts)
    graph = out / "openvino_model.xml"
    openvino.serialize(build(source), str(graph))
    openvino.serialize(
        build(RandomWeights(source.shape.vocabulary, facts["context_length"])), str(out / "grammar_model.xml")
    )
    write_tokenizers(tokenizer, vocabulary, out)
    write_descriptions(source, vocabulary, facts["context_length"], out)
    parity, selftest = prove(graph, source, tokenizer)
    write_selftest(out / "selftest.json", selftest)
    if WEIGHTS in facts.get(WANTED, ()):
        write_for_vllm(source, source_folder, out)
    return {"parity": asdict(parity), "four_bit_matrices": _four_bit_matrices(source), "tools": versions(TOOLS)}


def _four_bit_matrices(source: Source) -> str:
    """Return how many of the layers' matrices are stored in four bits, "210 of 210"."""
    grids = [source.projection(layer, name)[0].grid for layer in range(source.shape.layers) for name in PROJECTIONS]
    return f"{sum(grid is not None for grid in grids)} of {len(grids)}"


if __name__ == "__main__":
    sys.exit(run_exporter(export, __doc__))
