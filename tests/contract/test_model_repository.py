"""Every config.pbtxt and every variant keeps the contract that the service relies on."""

from pathlib import Path

import pytest

from services.asr import model as asr
from services.common.contract import datatype, of_config
from services.common.manifest import load_manifest, triton_name
from services.common.profiles import backend_of, known_profiles, parse_profile
from services.common.runtime_repository import MODEL_REPOSITORY, read_config, variants
from services.common.triton import model_config_pb2
from services.embedding import model as embedding
from services.llm import model as llm
from services.llm import vllm_model
from services.vision import model as vision
from tools.engines.shapes import covering, optimisation_profiles
from tools.export.llm.runtime import EXACT

ModelInstanceGroup = model_config_pb2.ModelInstanceGroup
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
VARIANTS = [path for path in CONFIGS if path.name != "config.pbtxt"]
PLANS = [path for path in VARIANTS if read_config(path).platform == "tensorrt_plan"]
GRAPHS = sorted(
    path.parent.parent
    for path in MODEL_REPOSITORY.glob("*/*/configs/cpu-int8.pbtxt")
    if path.is_relative_to(MODEL_REPOSITORY / "embedding") or path.is_relative_to(MODEL_REPOSITORY / "vision")
)
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
    config = read_config(path)
    # Triton's vLLM backend has tensors of its own, whatever the model.
    expected = vllm_model.contract() if config.backend == vllm_model.BACKEND else CONTRACTS[model_of(path)]
    assert of_config(config) == expected


@pytest.mark.parametrize("path", VARIANTS, ids=label)
def test_a_variant_is_named_as_a_profile_that_runs_its_backend(path):
    profile, config = parse_profile(path.stem), read_config(path)
    assert profile, f"known are {', '.join(known_profiles())}"
    groups = {ModelInstanceGroup.Kind.Name(group.kind) for group in config.instance_group}
    if not profile.gpu:
        assert (backend_of(config), groups) == ("python", {"KIND_CPU"})
    elif profile.name.startswith("vllm"):
        assert (backend_of(config), groups) == ("vllm", {"KIND_MODEL"})
    elif backend_of(config) != "python":  # a Python model runs plans by itself
        assert (profile.name.startswith(backend_of(config)), groups) == (True, {"KIND_GPU"})


@pytest.mark.parametrize("folder", GRAPHS, ids=label)
def test_every_graph_of_ours_has_every_profile(folder):
    plans = {"tensorrt-fp16", "tensorrt-int8", "tensorrt-fp8"}
    assert set(variants(folder)) == {"cpu-fp32", "cpu-int8", "onnxruntime-cuda-fp16", *plans}


@pytest.mark.parametrize("path", [path for path in VARIANTS if path.parent.parent in GRAPHS], ids=label)
def test_variants_of_a_graph_take_the_same_batches_and_limits(path):
    config, default = read_config(path), read_config(path.parent.parent / "config.pbtxt")
    limits = ("max_sequence_length", "max_side", "max_pixels", "multiple_of")
    for key in limits:
        assert config.parameters.get(key) == default.parameters.get(key), key
    assert config.max_batch_size == default.max_batch_size
    assert config.dynamic_batching == default.dynamic_batching
    assert config.model_warmup == default.model_warmup
    if "vocabulary_size" in default.parameters and backend_of(config) != "python":
        assert config.parameters["values.input_ids"] == default.parameters["vocabulary_size"]
        assert config.parameters["values.attention_mask"].string_value == "2"
    assert config.default_model_filename in ("", "model.onnx", "model.plan")


@pytest.mark.parametrize("path", PLANS, ids=label)
def test_a_plan_has_all_optimisation_profiles_and_graphs_inside_them(path):
    config = read_config(path)
    profiles = optimisation_profiles(config)
    (group,) = config.instance_group
    assert list(group.profile) == [str(number) for number in range(len(profiles))]
    for spec in config.optimization.cuda.graph_spec:
        bound = spec.graph_lower_bound
        assert covering(profiles, {name: (spec.batch_size, *shape.dim) for name, shape in spec.input.items()})
        assert not bound.batch_size or 1 < bound.batch_size < spec.batch_size
        # A graph for other lengths would compute on what lies behind the input.
        assert not bound.batch_size or {k: v.dim[:] for k, v in bound.input.items()} == {
            k: v.dim[:] for k, v in spec.input.items()
        }
    for warm_up in config.model_warmup:
        assert covering(profiles, {name: (1, *one.dims) for name, one in warm_up.inputs.items()})


@pytest.mark.parametrize("path", PLANS, ids=label)
def test_cuda_graphs_take_every_batch_size(path):
    by_shape = {}
    for spec in read_config(path).optimization.cuda.graph_spec:
        sizes = range(spec.graph_lower_bound.batch_size or spec.batch_size, spec.batch_size + 1)
        by_shape.setdefault(str(sorted(spec.input.items(), key=str)), []).extend(sizes)
    for sizes in by_shape.values():
        assert sorted(sizes) == list(range(1, read_config(path).max_batch_size + 1))


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
    streaming = {model_of(path) for path in CONFIGS if read_config(path).model_transaction_policy.decoupled}
    assert streaming == {model.triton_name for model in load_manifest().for_service("llm")}
