"""What the artifacts of a language model must be: a graph that reproduces its self-test, and its grammar model."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from services.common.manifest import LlmFacts
from tools.export.llm.runtime import Graph
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
    _load("grammar_model", facts, artifacts)
    if wrong := fault(_load("openvino_model", facts, artifacts), selftest):
        raise ContractError(f"openvino_model.xml does not reproduce selftest.json: {wrong}")


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
