from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.unit.tools.export.llm.tiny_llama import VOCABULARY, tensors, write_gguf, write_safetensors
from tools.export.command import ExportRefusedError
from tools.export.llm.exporter import check_facts, open_source
from tools.export.llm.gguf_file import GgufFile, four_bit_grid
from tools.export.llm.reference import log_probabilities
from tools.export.llm.safetensors_folder import SafetensorsFolder, rope_divisors
from tools.export.llm.source import Grid

IDS = [5, 17, 3, 39, 0, 8, 8, 21]


def dense(grid: Grid) -> np.ndarray:
    values = (grid.values.astype(np.float32) - grid.zero.astype(np.float32)) * grid.scale.astype(np.float32)
    return values.reshape(len(values), -1)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_a_four_bit_grid_is_the_files_own(kind: str) -> None:
    weights = np.random.default_rng(5).normal(0, 2, (6, 128)).astype(np.float32)
    weights[1, :32], weights[2, :32], weights[3, :32] = 0, 0.75, np.arange(32)
    quantisation = gguf.GGMLQuantizationType[kind]
    blocks = gguf.quantize(weights, quantisation)
    grid = four_bit_grid(blocks, kind)
    assert grid.values.max() <= 15
    assert dense(grid) == pytest.approx(gguf.dequantize(blocks, quantisation), abs=0.01)


@pytest.mark.parametrize("own_head", [False, True])
def test_gguf_and_safetensors_of_one_network_agree(tmp_path: Path, own_head: bool) -> None:
    weights = tensors(own_head=own_head)
    write_gguf(tmp_path / "tiny.gguf", weights, {})
    write_safetensors(tmp_path / "folder", weights)
    (one,) = log_probabilities(GgufFile(tmp_path / "tiny.gguf"), [IDS])
    (other,) = log_probabilities(SafetensorsFolder(tmp_path / "folder"), [IDS])
    assert one == pytest.approx(other, abs=1e-4)
    assert np.exp(one).sum(axis=-1) == pytest.approx(1, abs=1e-4)


def test_qwen2_has_biases_and_no_permutation(tmp_path: Path) -> None:
    weights = tensors(biases=True)
    write_gguf(tmp_path / "tiny.gguf", weights, {}, "qwen2")
    write_safetensors(tmp_path / "folder", weights, model_type="qwen2")
    (one,) = log_probabilities(GgufFile(tmp_path / "tiny.gguf"), [IDS])
    (other,) = log_probabilities(SafetensorsFolder(tmp_path / "folder"), [IDS])
    write_safetensors(tmp_path / "unbiased", tensors())
    (without,) = log_probabilities(SafetensorsFolder(tmp_path / "unbiased"), [IDS])
    assert one == pytest.approx(other, abs=1e-4)
    assert np.abs(one - without).max() > 0.1


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_is_read(tmp_path: Path, kind: str) -> None:
    weights = tensors()
    write_safetensors(tmp_path, weights, kind)
    read = SafetensorsFolder(tmp_path).embedding()
    assert read == pytest.approx(weights["model.embed_tokens.weight"], rel=0.01)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "gpt2"}, "model type"),
        ({"hidden_act": "gelu"}, "SiLU"),
        ({"use_sliding_window": True}, "whole context"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "rope scaling"),
    ],
)
def test_another_kind_of_network_is_refused(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    write_safetensors(tmp_path, tensors(), **config)
    with pytest.raises(ExportRefusedError, match=reason):
        SafetensorsFolder(tmp_path)


def test_another_float_is_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path, tensors(), "F64")
    with pytest.raises(ExportRefusedError, match="F64"):
        SafetensorsFolder(tmp_path).embedding()


@pytest.mark.parametrize(
    ("architecture", "facts", "reason"),
    [
        ("gpt2", {}, "architecture"),
        ("llama", {"add_expert_count": 4}, "experts"),
        ("llama", {"add_rope_scaling_type": gguf.RopeScalingType.YARN}, "rope scaling"),
    ],
)
def test_another_gguf_is_refused(tmp_path: Path, architecture: str, facts: dict[str, Any], reason: str) -> None:
    write_gguf(tmp_path / "tiny.gguf", tensors(), {}, architecture, **facts)
    with pytest.raises(ExportRefusedError, match=reason):
        GgufFile(tmp_path / "tiny.gguf")


def test_rope_scaling_of_llama_3() -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    divisors = rope_divisors(scaling | {"original_max_position_embeddings": 8192}, 128, 500000.0)
    assert divisors is not None and divisors.shape == (64,)
    assert divisors[:20] == pytest.approx(1) and divisors[-20:] == pytest.approx(8)
    assert (np.diff(divisors) >= -1e-6).all()


def test_linear_rope_scaling_reaches_both_formats(tmp_path: Path) -> None:
    scaled = {"add_rope_scaling_type": gguf.RopeScalingType.LINEAR, "add_rope_scaling_factor": 4.0}
    write_gguf(tmp_path / "tiny.gguf", tensors(), {}, **scaled)
    write_safetensors(tmp_path / "folder", tensors(), rope_scaling={"type": "linear", "factor": 4.0})
    (one,) = log_probabilities(GgufFile(tmp_path / "tiny.gguf"), [IDS])
    (other,) = log_probabilities(SafetensorsFolder(tmp_path / "folder"), [IDS])
    assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"vocabulary_size": 7}, "vocabulary_size"),
        ({"context_length": 129}, "context_length"),
        ({"eos_token_ids": [1]}, "eos_token_ids"),
        ({"bos_token_id": 1}, "bos_token_id"),
    ],
)
def test_the_manifest_must_say_what_the_files_say(tmp_path: Path, wrong: dict[str, Any], name: str) -> None:
    write_gguf(tmp_path / "tiny.gguf", tensors(), {})
    source = open_source(tmp_path)
    facts = {"vocabulary_size": VOCABULARY, "context_length": 64, "eos_token_ids": [2], "bos_token_id": None}
    check_facts(source, source.vocabulary(), facts)
    with pytest.raises(ExportRefusedError, match=name):
        check_facts(source, source.vocabulary(), facts | wrong)


def test_there_must_be_one_model(tmp_path: Path) -> None:
    with pytest.raises(ExportRefusedError, match="0 GGUF files"):
        open_source(tmp_path)
