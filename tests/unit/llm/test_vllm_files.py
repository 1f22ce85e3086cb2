"""The folder that vLLM is started on: its arguments by profile, what the store lacks, what is left out."""

import json

import pytest

from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from services.common.runtime_repository import (
    MODEL_REPOSITORY,
    Variant,
    default_variant,
    materialise,
    read_config,
    variants,
)
from services.common.server import StartupError
from services.llm.repository import Place, runtime_models
from tests.unit.llm.fakes import make_tokenizer
from tools.model_preparation.store_writer import StoreWriter

MODEL = load_manifest().model("smollm2-135m-instruct")
NAME = MODEL.triton_name
SOURCE = MODEL_REPOSITORY / "llm"


@pytest.fixture
def store(tmp_path):
    (tmp_path / "files").mkdir()
    make_tokenizer(tmp_path / "files")
    for name in MODEL.artifacts_for("vllm"):
        path = tmp_path / "files" / name
        if not path.exists():
            path.write_text(json.dumps({"eos_token_id": 2}) if name.endswith("config.json") else name)
    return ModelStore(tmp_path / "store")


def fill(store, *backends):
    folder = store.root.with_name("files")
    StoreWriter(store).publish(MODEL.id, {name: folder / name for name in MODEL.artifacts_for(*backends)}, {})


def put_together(store, profile, target):
    parts = runtime_models(MODEL, MODEL.llm, Place(store, target, threads=2, slots=7, gpu_memory_utilization=0.5))
    chosen = {part.name: default_variant(SOURCE / part.folder) for part in parts}
    chosen[NAME] = Variant(profile, variants(SOURCE / NAME)["vllm-bf16-tp1"])
    return materialise(SOURCE, target, parts, chosen, 2)


@pytest.mark.parametrize(
    ("profile", "tensor", "pipeline"), [("vllm-bf16-tp1", 1, 1), ("vllm-bf16-tp2", 2, 1), ("vllm-bf16-tp4-pp2", 4, 2)]
)
def test_the_engine_gets_its_arguments(store, tmp_path, profile, tensor, pipeline):
    fill(store, "vllm")
    target = tmp_path / "repository"
    configs = put_together(store, profile, target)
    folder = target / NAME / "1"
    arguments = json.loads((folder / "model.json").read_text())
    assert arguments == {
        "model": str(folder),
        "dtype": "bfloat16",
        "kv_cache_dtype": "auto",
        "enable_prefix_caching": True,
        "disable_log_stats": False,
        "structured_outputs_config": {"backend": "xgrammar"},
        "max_logprobs": 20,
        "seed": 0,
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": pipeline,
        "max_model_len": MODEL.llm.context_length,
        "max_num_seqs": 7,
        "gpu_memory_utilization": 0.5,
    }
    assert {path.name for path in folder.iterdir()} == {
        *("model.json", "model.safetensors", "config.json", "generation_config.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert (folder / "model.safetensors").read_text() == "vllm.safetensors"
    assert configs[NAME].backend == "vllm"
    assert [configs[f"{NAME}_{part}"].backend for part in ("score", "grammar")] == ["python", "python"]


def test_the_default_profile_needs_none_of_it(store, tmp_path):
    fill(store)
    place = Place(store, tmp_path, 2, 7, 0.5)
    parts = {part.name: part for part in runtime_models(MODEL, MODEL.llm, place)}
    with pytest.raises(StartupError, match=f"tools/models fetch {MODEL.id} --backend vllm"):
        parts[NAME].other_files(read_config(variants(SOURCE / NAME)["vllm-bf16-tp1"]))
    materialise(SOURCE, tmp_path / "repository", list(parts.values()), None, 2)
    assert not (tmp_path / "repository" / NAME / "1" / "model.json").exists()
    assert (tmp_path / "repository" / NAME / "1" / "model.py").exists()


def test_a_parameter_that_is_not_json_is_named(store, tmp_path):
    fill(store, "vllm")
    (part, *_) = runtime_models(MODEL, MODEL.llm, Place(store, tmp_path, 2, 7, 0.5))
    config = read_config(variants(SOURCE / NAME)["vllm-bf16-tp1"])
    config.parameters["engine.dtype"].string_value = "bfloat16"
    with pytest.raises(StartupError, match=r"engine\.dtype"):
        part.other_files(config)


def test_a_model_of_ones_own_runs_on_the_default_models_folders(store, tmp_path):
    own = MODEL.model_copy(update={"id": "my-model"})
    folder = store.root.with_name("files")
    StoreWriter(store).publish(own.id, {name: folder / name for name in own.artifacts_for("vllm")}, {})
    (part, *_) = runtime_models(own, replace_facts(own), Place(store, tmp_path, 2, 7, 0.5))
    files = part.other_files(read_config(variants(SOURCE / NAME)["vllm-bf16-tp1"]))
    assert json.loads(files["model.json"])["model"] == str(tmp_path / "my_model" / "1")
    assert json.loads(files["model.json"])["max_model_len"] == 100


def replace_facts(model):
    return model.llm.model_copy(update={"context_length": 100})
