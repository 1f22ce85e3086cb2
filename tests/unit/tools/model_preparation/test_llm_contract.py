import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino
import pytest

from services.common.manifest import LlmFacts
from tests.unit.tools.export.llm.tiny_llama import VOCABULARY, tensors, write_gguf
from tools.export.llm.bfloat16_weights import write_weights
from tools.export.llm.gguf_file import GgufFile
from tools.export.llm.graph import RandomWeights, build
from tools.export.llm.parity import prove
from tools.export.llm.selftest import write_selftest
from tools.model_preparation.graph_loading import ContractError
from tools.model_preparation.llm_contract import REQUIRED, check_llm

FACTS = LlmFacts(context_length=128, vocabulary_size=VOCABULARY, eos_token_ids=(2,))


class Words:
    """Stands in for a tokenizer: a text is the lengths of its words."""

    def encode(self, text: str, add_special_tokens: bool) -> "Words":
        self.ids = [3 + len(word) for word in text.split()]
        return self


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Path]:
    """Write the artifacts as a store does, under names of their own."""
    write_gguf(tmp_path / "tiny.gguf", tensors(), {})
    source = GgufFile(tmp_path / "tiny.gguf")
    openvino.serialize(build(source), str(tmp_path / "openvino_model.xml"))
    openvino.serialize(build(RandomWeights(VOCABULARY, 128)), str(tmp_path / "grammar_model.xml"))
    write_selftest(tmp_path / "selftest.json", prove(tmp_path / "openvino_model.xml", source, Words())[1])
    stored = {}
    for number, name in enumerate(REQUIRED):
        stored[name] = tmp_path / f"blob{number}"
        path = tmp_path / name
        stored[name].write_bytes(path.read_bytes() if path.exists() else b"{}")
    return stored


def test_what_was_exported_keeps_the_contract(artifacts: dict[str, Path]) -> None:
    check_llm(FACTS, artifacts)


@pytest.fixture
def with_vllm(artifacts: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    write_weights(GgufFile(tmp_path / "tiny.gguf"), tmp_path / "weights")
    (tmp_path / "description").write_text(json.dumps({"vocab_size": VOCABULARY}))
    return {**artifacts, "vllm.safetensors": tmp_path / "weights", "vllm_config.json": tmp_path / "description"}


def test_weights_for_vllm_keep_the_contract(with_vllm: dict[str, Path]) -> None:
    check_llm(FACTS, with_vllm)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut short"),
        (lambda path: path.write_bytes(b"garbage, a lot of it"), "not of a Llama-like network"),
        (lambda path: path.write_bytes(b""), "not of a Llama-like network"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"BF16"', b'"F160"', 1)), "not in bfloat16"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"embed_tokens", b"embed_tokenz")), "Llama-like"),
    ],
)
def test_damaged_weights_for_vllm_are_refused(
    with_vllm: dict[str, Path], spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(with_vllm["vllm.safetensors"])
    with pytest.raises(ContractError, match=reason):
        check_llm(FACTS, with_vllm)


def test_weights_for_vllm_need_their_description(with_vllm: dict[str, Path]) -> None:
    del with_vllm["vllm_config.json"]
    with pytest.raises(ContractError, match=r"without vllm_config\.json"):
        check_llm(FACTS, with_vllm)


def alter(case: dict[str, Any]) -> None:
    case["logprobs"] = [value - 5 for value in case["logprobs"]]


def test_another_graph_is_refused(artifacts: dict[str, Path]) -> None:
    document = json.loads(artifacts["selftest.json"].read_text())
    alter(document["cases"][0])
    artifacts["selftest.json"].write_text(json.dumps(document))
    with pytest.raises(ContractError, match=r"does not reproduce selftest\.json: case 0"):
        check_llm(FACTS, artifacts)


def test_another_vocabulary_is_refused(artifacts: dict[str, Path]) -> None:
    with pytest.raises(ContractError, match=r"grammar_model\.xml has 40 tokens, the manifest says 41"):
        check_llm(FACTS.model_copy(update={"vocabulary_size": 41}), artifacts)


@pytest.mark.parametrize("name", ["openvino_model.xml", "grammar_model.bin"])
def test_a_damaged_graph_is_refused(artifacts: dict[str, Path], name: str) -> None:
    artifacts[name].write_bytes(b"nothing")
    with pytest.raises(ContractError, match="cannot be loaded"):
        check_llm(FACTS, artifacts)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_artifact_is_named(artifacts: dict[str, Path], name: str) -> None:
    del artifacts[name]
    with pytest.raises(ContractError, match=name):
        check_llm(FACTS, artifacts)


def test_no_self_test_is_said_so(artifacts: dict[str, Path]) -> None:
    artifacts["selftest.json"].write_text("[]")
    with pytest.raises(ContractError, match="not a self-test"):
        check_llm(FACTS, artifacts)
