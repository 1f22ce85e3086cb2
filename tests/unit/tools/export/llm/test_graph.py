import dataclasses
from pathlib import Path

import numpy as np
import openvino
import pytest

from tests.unit.tools.export.llm.tiny_llama import tensors, write_gguf, write_safetensors
from tools.export.command import ExportRefusedError
from tools.export.llm import parity
from tools.export.llm.gguf_file import GgufFile
from tools.export.llm.graph import build, halves_first
from tools.export.llm.reference import log_probabilities, log_softmax
from tools.export.llm.runtime import Graph
from tools.export.llm.safetensors_folder import SafetensorsFolder
from tools.export.llm.selftest import Case, SelfTest, fault, read_selftest, write_selftest
from tools.export.llm.source import Source

IDS = [5, 17, 3, 39, 0, 8, 8, 21, 30, 11]
FOUR_BITS = {"attn_q": "Q4_1", "attn_k": "Q4_0", "attn_output": "Q4_1", "ffn_gate": "Q4_0", "ffn_up": "Q8_0"}


def graph_of(source: Source, folder: Path) -> Graph:
    path = folder / "openvino_model.xml"
    openvino.serialize(build(source), str(path))
    return Graph(path)


@pytest.fixture
def four_bits(tmp_path: Path) -> Source:
    write_gguf(tmp_path / "tiny.gguf", tensors(), FOUR_BITS)
    return GgufFile(tmp_path / "tiny.gguf")


def test_the_graph_computes_what_the_reference_does(four_bits: Source, tmp_path: Path) -> None:
    (expected,) = log_probabilities(four_bits, [IDS])
    actual = log_softmax(graph_of(four_bits, tmp_path).follow(IDS))
    assert parity.compare([expected], [actual], [IDS]).mean_divergence < 0.01


def test_biases_and_a_head_of_its_own(tmp_path: Path) -> None:
    write_safetensors(tmp_path, tensors(biases=True, own_head=True), model_type="qwen2")
    source = SafetensorsFolder(tmp_path)
    (expected,) = log_probabilities(source, [IDS])
    actual = log_softmax(graph_of(source, tmp_path).follow(IDS))
    assert parity.compare([expected], [actual], [IDS]).mean_divergence < 0.01


def test_a_sequence_may_come_in_parts(four_bits: Source, tmp_path: Path) -> None:
    graph = graph_of(four_bits, tmp_path)
    whole = graph.follow(IDS)
    graph.restart()
    parts = np.concatenate([graph.follow(IDS[:4]), graph.follow(IDS[4:5]), graph.follow(IDS[5:])])
    assert parts == pytest.approx(whole, abs=1e-4)


def test_pairs_of_neighbours_become_halves_head_by_head() -> None:
    assert halves_first(8, 4).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


class Words:
    """Stands in for a tokenizer: a text is the lengths of its words."""

    def encode(self, text: str, add_special_tokens: bool) -> "Words":
        self.ids = [3 + len(word) for word in text.split()]
        return self


def test_the_proof_gives_a_self_test_that_the_graph_passes(four_bits: Source, tmp_path: Path) -> None:
    graph = graph_of(four_bits, tmp_path)
    found, test = parity.prove(tmp_path / "openvino_model.xml", four_bits, Words())
    assert found.mean_divergence < 0.01 and found.agreement > 0.95
    write_selftest(tmp_path / "selftest.json", test)
    assert fault(graph, read_selftest(tmp_path / "selftest.json")) is None
    first = test.cases[0]
    other = dataclasses.replace(first, output_ids=[(first.output_ids[0] + 1) % 40, *first.output_ids[1:]])
    assert fault(graph, SelfTest(test.tolerance, [other])) == "case 0: another answer"
    off = dataclasses.replace(first, logprobs=[value - 3 for value in first.logprobs])
    assert "is 3.0" in (fault(graph, SelfTest(0.1, [off])) or "")


def test_another_network_is_refused(four_bits: Source, tmp_path: Path) -> None:
    graph_of(four_bits, tmp_path)
    write_gguf(tmp_path / "other.gguf", {name: -values for name, values in tensors().items()}, {})
    with pytest.raises(ExportRefusedError, match="differs from the original"):
        parity.prove(tmp_path / "openvino_model.xml", GgufFile(tmp_path / "other.gguf"), Words())


def test_an_answer_ends_where_the_reference_would_go_on_otherwise() -> None:
    rows = log_softmax(np.array([[9, 0, 0], [0, 9, 0], [9, 0, 0], [0, 9, 0]], dtype=np.float32))
    assert parity.agreed("t", [0], [0, 1, 1, 1], rows).output_ids == [0, 1]
    close = log_softmax(np.array([[9, 0, 0], [0, 5.05, 5]], dtype=np.float32))
    assert parity.agreed("t", [0], [0, 1], close).output_ids == [0]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 1}', '{"format": 2, "tolerance": 1, "cases": []}', '{"cases": [{"x": 1}]}']
)
def test_what_is_no_self_test_is_said_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "selftest.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        read_selftest(path)


def test_answer_and_log_probabilities_go_together(tmp_path: Path) -> None:
    write_selftest(tmp_path / "selftest.json", SelfTest(0.1, [Case("t", [1], [2, 3], [-0.1])]))
    with pytest.raises(ValueError, match="log-probabilities"):
        read_selftest(tmp_path / "selftest.json")
