"""Weights for vLLM: whatever file they come from, read back they are the same network, rounded to bfloat16."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.tools.export.llm.tiny_llama import tensors, write_gguf, write_safetensors
from tools.export.command import ExportRefusedError
from tools.export.llm.bfloat16_weights import CONFIG, WEIGHTS, describe, to_bfloat16, write_for_vllm, write_weights
from tools.export.llm.gguf_file import GgufFile
from tools.export.llm.reference import log_probabilities
from tools.export.llm.safetensors_folder import SafetensorsFolder

IDS = [3, 7, 1, 30, 12, 12, 0, 39]


def read_back(source: Any, folder: Path, config: Path) -> SafetensorsFolder:
    folder.mkdir()
    write_weights(source, folder / "model.safetensors")
    (folder / "config.json").write_bytes(config.read_bytes())
    return SafetensorsFolder(folder)


@pytest.mark.parametrize("own_head", [False, True])
@pytest.mark.parametrize(("biases", "kind"), [(False, "llama"), (True, "qwen2")])
def test_a_gguf_file_read_back_is_the_same_network(tmp_path: Path, biases: bool, kind: str, own_head: bool) -> None:
    weights = tensors(biases=biases, own_head=own_head)
    write_gguf(tmp_path / "tiny.gguf", weights, {}, kind)
    write_safetensors(tmp_path / "folder", weights, model_type=kind)
    source = GgufFile(tmp_path / "tiny.gguf")
    written = read_back(source, tmp_path / "made", tmp_path / "folder" / "config.json")
    (one,), (other,) = log_probabilities(source, [IDS]), log_probabilities(written, [IDS])
    assert np.abs(one - other).mean() < 0.1
    assert np.abs(one - other).max() > 0, "it is rounded"
    for layer in range(source.shape.layers):
        assert written.projection(layer, "v")[0].values == pytest.approx(
            source.projection(layer, "v")[0].values, rel=2**-8
        )


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (1.0, 1.0),
        (-2.5, -2.5),
        (1 + 2**-9, 1.0),
        (1 + 3 * 2**-9, 1 + 2**-7),
        (1 + 2**-8, 1.0),
        (1 + 3 * 2**-8, 1 + 2**-6),
    ],
)
def test_values_are_rounded_to_the_nearest_even(value: float, rounded: float) -> None:
    bits = to_bfloat16(np.array([value], dtype=np.float32))
    found = (bits.astype(np.uint32) << 16).view(np.float32)[0]
    assert found == rounded


def test_a_folder_keeps_its_own_description(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "folder", tensors())
    own = json.loads((tmp_path / "folder" / "config.json").read_text())
    (tmp_path / "out").mkdir()
    write_for_vllm(SafetensorsFolder(tmp_path / "folder"), tmp_path / "folder", tmp_path / "out")
    assert json.loads((tmp_path / "out" / CONFIG).read_text()) == {**own, "torch_dtype": "bfloat16"}
    assert (tmp_path / "out" / WEIGHTS).stat().st_size > 0


def test_a_gguf_file_with_biases_is_described_as_a_network_that_has_them(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", tensors(biases=True), {}, "qwen2")
    described = describe(GgufFile(tmp_path / "tiny.gguf"), {"model_type": "llama"})
    assert (described["model_type"], described["architectures"]) == ("qwen2", ["Qwen2ForCausalLM"])


def test_a_rotation_that_the_description_lacks_is_refused(tmp_path: Path) -> None:
    scaling = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    write_safetensors(tmp_path / "folder", tensors(), **scaling)
    source = SafetensorsFolder(tmp_path / "folder")
    with pytest.raises(ExportRefusedError, match="rotary"):
        describe(source, {"model_type": "llama"})
    assert describe(source, {"model_type": "llama", **scaling})["rope_scaling"] == scaling["rope_scaling"]
