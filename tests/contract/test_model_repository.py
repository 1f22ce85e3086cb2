"""Every config.pbtxt and every variant keeps the contract that the service relies on."""

from pathlib import Path

import pytest

from services.asr import model as asr
from services.common.contract import datatype, of_config
from services.common.manifest import load_manifest, triton_name
from services.common.runtime_repository import MODEL_REPOSITORY, read_config
from services.embedding import model as embedding
from services.llm import model as llm
from services.vision import model as vision
from tools.export.llm.runtime import EXACT

MODELS = {path.name: path for path in MODEL_REPOSITORY.glob("*/*") if path.is_dir()}
CONFIGS = sorted([*MODEL_REPOSITORY.glob("*/*/config.pbtxt"), *MODEL_REPOSITORY.glob("*/*/configs/*.pbtxt")])
CONTRACTS = {
    name: contract
    for service, contracts in (
        ("embedding", embedding.contracts),
        ("llm", llm.contracts),
        ("asr", asr.contracts),
        ("vision", vision.contracts),
    )
    for model in load_manifest().for_service(service)
    for name, contract in contracts(model).items()
}
SMALLEST_BATCH = 4
UNBATCHED = "llm"


def label(path: Path) -> str:
    return str(path.relative_to(MODEL_REPOSITORY))


def model_of(path: Path) -> str:
    return path.parent.name if path.name == "config.pbtxt" else path.parent.parent.name


@pytest.mark.parametrize("path", CONFIGS, ids=label)
def test_a_config_is_named_as_its_folder_and_batches(path):
    config = read_config(path)
    assert config.name == model_of(path)
    unbatched = path.is_relative_to(MODEL_REPOSITORY / UNBATCHED)
    assert config.max_batch_size == 0 if unbatched else config.max_batch_size >= SMALLEST_BATCH
    assert config.name == triton_name(config.name)


@pytest.mark.parametrize("path", CONFIGS, ids=label)
def test_a_config_keeps_its_contract(path):
    assert of_config(read_config(path)) == CONTRACTS[model_of(path)]


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_every_contract_has_a_model_with_code_or_steps(name):
    folder = MODELS[name]
    assert (folder / "1" / "model.py").is_file() or read_config(folder / "config.pbtxt").ensemble_scheduling.step


@pytest.mark.parametrize("path", CONFIGS, ids=label)
def test_a_config_that_merges_requests_bounds_its_queue(path):
    config = read_config(path)
    if config.HasField("dynamic_batching"):
        policy = config.dynamic_batching.default_queue_policy
        assert policy.max_queue_size and policy.default_timeout_microseconds and policy.allow_timeout_override


def test_model_names_are_unique_over_the_fleet():
    names = [path.name for path in MODEL_REPOSITORY.glob("*/*") if path.is_dir()]
    assert len(names) == len(set(names))
    assert names


@pytest.mark.parametrize("path", [p for p in CONFIGS if read_config(p).HasField("ensemble_scheduling")], ids=label)
def test_the_steps_of_an_ensemble_fit_together(path):
    config = read_config(path)
    known = {tensor.name: (datatype(tensor.data_type), tuple(tensor.dims)) for tensor in config.input}
    for step in config.ensemble_scheduling.step:
        part = read_config(MODELS[step.model_name] / "config.pbtxt")
        inputs = {t.name: (datatype(t.data_type), tuple(t.dims)) for t in part.input}
        outputs = {t.name: (datatype(t.data_type), tuple(t.dims)) for t in part.output}
        assert set(step.input_map) == set(inputs)
        assert set(step.output_map) <= set(outputs)
        for name, source in step.input_map.items():
            assert known[source] == inputs[name]
        known |= {target: outputs[name] for name, target in step.output_map.items()}
        assert part.max_batch_size >= config.max_batch_size
    assert {t.name: (datatype(t.data_type), tuple(t.dims)) for t in config.output}.items() <= known.items()


def parameters(name):
    return {key: value.string_value for key, value in read_config(MODELS[name] / "config.pbtxt").parameters.items()}


@pytest.mark.parametrize("model", load_manifest().for_service("llm"), ids=lambda model: model.id)
def test_the_facts_of_a_language_model_are_those_of_the_manifest(model):
    engine, scorer = parameters(model.triton_name), parameters(f"{model.triton_name}_score")
    assert engine["eos_token_ids"] == ",".join(map(str, model.llm.eos_token_ids))
    for one in (engine, scorer):
        assert int(one["context_length"]) == model.llm.context_length
        assert int(one["vocabulary_size"]) == model.llm.vocabulary_size


@pytest.mark.parametrize("model", load_manifest().for_service("llm"), ids=lambda model: model.id)
def test_engine_scorer_and_export_compute_alike(model):
    for name in (model.triton_name, f"{model.triton_name}_score"):
        given = {key.removeprefix("engine."): value for key, value in parameters(name).items() if "engine." in key}
        assert given == EXACT


def test_only_the_engine_streams():
    streaming = {path.parent.name for path in CONFIGS if read_config(path).model_transaction_policy.decoupled}
    assert streaming == {model.triton_name for model in load_manifest().for_service("llm")}
