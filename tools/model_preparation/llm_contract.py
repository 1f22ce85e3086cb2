"""What the artifacts of a language model must be: a graph that reproduces its self-test, and its grammar model."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from services.common.manifest import LlmFacts
from tools.export.llm.bfloat16_weights import CONFIG, WEIGHTS
from tools.export.llm.runtime import Graph
from tools.export.llm.safetensors_folder import header
from tools.export.llm.selftest import fault, read_selftest
from tools.model_preparation.graph_loading import ContractError

REQUIRED = (
    "openvino_model.xml",
    "openvino_model.bin",
    "openvino_tokenizer.xml",
    "openvino_tokenizer.bin",
    "openvino_detokenizer.xml",
    "openvino_detokenizer.bin",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "grammar_model.xml",
    "grammar_model.bin",
    "selftest.json",
)


def check_llm(facts: LlmFacts, artifacts: Mapping[str, Path]) -> None:
    """Check the graphs of a language model. ContractError says what does not hold."""
    if absent := [name for name in REQUIRED if name not in artifacts]:
        raise ContractError(f"{', '.join(absent)} is missing")
    try:
        selftest = read_selftest(artifacts["selftest.json"])
    except ValueError as error:
        raise ContractError(f"selftest.json is not a self-test: {error}") from error
    _check_vllm(facts, artifacts)
    _load("grammar_model", facts, artifacts)
    if wrong := fault(_load("openvino_model", facts, artifacts), selftest):
        raise ContractError(f"openvino_model.xml does not reproduce selftest.json: {wrong}")


def _check_vllm(facts: LlmFacts, artifacts: Mapping[str, Path]) -> None:
    """Check the weights for vLLM where there are any: whole, in bfloat16, of this vocabulary, and described."""
    if WEIGHTS not in artifacts:
        return
    if CONFIG not in artifacts:
        raise ContractError(f"{WEIGHTS} is there without {CONFIG}")
    try:
        entries = header(artifacts[WEIGHTS])
        tensors = {name: entry for name, _, entry in entries}
        size = max(start + entry["data_offsets"][1] for _, start, entry in entries)
        vocabulary = tensors["model.embed_tokens.weight"]["shape"][0]
        described = json.loads(artifacts[CONFIG].read_text(encoding="utf-8"))["vocab_size"]
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise ContractError(f"{WEIGHTS} or {CONFIG} is not of a Llama-like network") from error
    if {entry["dtype"] for entry in tensors.values()} != {"BF16"} or size != artifacts[WEIGHTS].stat().st_size:
        raise ContractError(f"{WEIGHTS} is cut short or not in bfloat16")
    if not facts.vocabulary_size == vocabulary == described:
        raise ContractError(f"{WEIGHTS} has {vocabulary} tokens, the manifest says {facts.vocabulary_size}")


def _load(name: str, facts: LlmFacts, artifacts: Mapping[str, Path]) -> Graph:
    """Load a graph with its weights beside it, which need not lie so in the store."""
    with TemporaryDirectory() as folder:
        for ending in (".xml", ".bin"):
            (Path(folder) / f"{name}{ending}").symlink_to(artifacts[name + ending].resolve())
        try:
            graph = Graph(Path(folder) / f"{name}.xml")
        except Exception as error:
            raise ContractError(f"{name}.xml cannot be loaded by OpenVINO") from error
    if graph.vocabulary != facts.vocabulary_size:
        raise ContractError(f"{name}.xml has {graph.vocabulary} tokens, the manifest says {facts.vocabulary_size}")
    return graph
