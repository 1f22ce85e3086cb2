"""The choice of profiles at start: by name, or the best that fits; refusals that say why; nothing silent."""

import hashlib
import logging
import os

import pytest

from services.common.engines import EngineCache, EngineKey
from services.common.machine import Gpu, Machine
from services.common.model_store import ModelStoreError
from services.common.profile_choice import Chooser, Wanted
from services.common.profiles import profile_of
from services.common.runtime_repository import RuntimeModel, materialise
from services.common.server import StartupError
from tools.engines.publish import EnginePublisher

GPU = Gpu("NVIDIA L40S", "8.9", 46 << 30)
CPU_ONLY = Machine("linux-x86_64", 16 << 30, backends=frozenset({"python"}))
WITH_GPU = Machine(
    "linux-x86_64",
    16 << 30,
    (GPU, GPU),
    "580.65.06",
    backends=frozenset({"python", "tensorrt", "onnxruntime", "vllm"}),
    tensorrt="11.4.0.1",
)
GRAPH = b"a graph"
DIGEST = hashlib.sha256(GRAPH).hexdigest()
PYTHON = 'name: "NAME" backend: "python" max_batch_size: 8 instance_group [ { kind: KIND_CPU count: 1 } ]'
PLAN = """name: "NAME" platform: "tensorrt_plan" max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_GPU count: 2 profile: [ "0", "1", "2" ] } ]
optimization { cuda { graphs: true graph_spec [
  { batch_size: 8 input { key: "x" value { dim: [ 16 ] } } },
  { batch_size: 8 input { key: "x" value { dim: [ 64 ] } } }
] } }"""
VLLM = 'name: "NAME" backend: "vllm" instance_group [ { kind: KIND_MODEL count: 1 } ]'
OF_GRAPHS = {"cpu-int8": PYTHON, "tensorrt-fp16": PLAN}
FITTING = {
    "tensorrt-fp16": {
        "builder": "tensorrt 11.4.0.1",
        "gpu_name": GPU.name,
        "compute_capability": "8.9",
        "platform": "linux-x86_64",
        "shapes": '[{"x":[[1,1],[8,16],[8,32]]}]',
    },
    "cpu-int8": {},
}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


class Place:
    """A model repository, a store and an engine cache."""

    def __init__(self, root):
        self.source, self.store, self.target = root / "source", root / "store", root / "target"
        self.source.mkdir()
        self.publisher = EnginePublisher(EngineCache(self.store))
        self.blob = self.store / "blobs" / DIGEST
        self.blob.parent.mkdir(parents=True)
        self.blob.write_bytes(GRAPH)

    def part(self, name, model="m", configs=OF_GRAPHS, **facts):
        folder = self.source / name
        (folder / "1").mkdir(parents=True)
        (folder / "configs").mkdir()
        (folder / "config.pbtxt").write_text(PYTHON.replace("NAME", name))
        for profile, text in configs.items():
            (folder / f"configs/{profile}.pbtxt").write_text(text.replace("NAME", name))
        given = {"graph": "model.onnx", **facts}
        return RuntimeModel(name, {"model.onnx": self.blob}, folder=name, model=model, **given)

    def engine(self, name, profile="cpu-int8", gate=True, **key):
        file = self.store / "built"
        file.write_bytes(b"engine of " + name.encode())
        fields = {"triton_model": name, "profile": profile, "source_sha256": DIGEST, **FITTING[profile], **key}
        verdict = {"passed": gate} if gate else {"passed": False, "reason": "top-1 lost 3 %"}
        target = "model.plan" if profile.startswith("tensorrt") else "model.onnx"
        return self.publisher.publish(
            EngineKey(**fields), "m", {target: file}, gate=verdict, facts={}, build_seconds=1.0
        )

    def choose(self, *parts, machine=CPU_ONLY, profile=None, gpu_instances=None, **profiles):
        named = {name.replace("__", "-"): value for name, value in profiles.items()}
        wanted = Wanted(profile, named, gpu_instances)
        return Chooser(self.source, machine, EngineCache(self.store), 2, wanted).choose(parts)

    def chosen(self, *parts, **settings):
        return {name: variant.profile for name, variant in self.choose(*parts, **settings).items()}


def test_without_a_gpu_the_default_is_taken_and_the_log_says_why(place, caplog):
    caplog.set_level(logging.INFO)
    assert place.chosen(place.part("a")) == {"a": "cpu-fp32"}
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage().startswith(
        "'m' runs by profile cpu-fp32; better ones were passed over: tensorrt-fp16 (there is no NVIDIA GPU"
    )
    assert "engines build" not in record.getMessage()


def test_the_best_that_fits_is_taken_by_itself(place, caplog):
    caplog.set_level(logging.INFO)
    part = place.part("a")
    place.engine("a", "tensorrt-fp16")
    assert place.chosen(part, machine=WITH_GPU) == {"a": "tensorrt-fp16"}
    assert [record.getMessage() for record in caplog.records] == ["'m' runs by profile tensorrt-fp16"]


def test_on_a_gpu_a_better_one_that_is_passed_over_is_a_warning(place, caplog):
    assert place.chosen(place.part("a"), machine=WITH_GPU) == {"a": "cpu-fp32"}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "run: tools/flotilla engines build a --profile tensorrt-fp16" in record.getMessage()


def test_quantised_profiles_are_taken_by_name_only(place):
    part = place.part("a")
    engine = place.engine("a")
    assert place.chosen(part) == {"a": "cpu-fp32"}
    assert place.choose(part, profile="cpu-int8")["a"].engine_files == {"model.onnx": engine.path("model.onnx")}


def test_all_parts_of_a_model_go_together_unless_named(place):
    parts = [place.part("a"), place.part("b"), place.part("c", model="other")]
    place.engine("a", "tensorrt-fp16")
    place.engine("c", "tensorrt-fp16")
    assert place.chosen(*parts, machine=WITH_GPU) == {"a": "cpu-fp32", "b": "cpu-fp32", "c": "tensorrt-fp16"}
    place.engine("a")
    assert place.chosen(*parts, a="cpu-int8")["b"] == "cpu-fp32"
    assert place.chosen(*parts, a="cpu-int8") == {"a": "cpu-int8", "b": "cpu-fp32", "c": "cpu-fp32"}


def test_a_part_with_no_variants_is_the_same_in_every_profile(place):
    parts = [place.part("a"), place.part("a_tokenizer", configs={}, graph=None)]
    place.engine("a")
    assert place.chosen(*parts, profile="cpu-int8") == {"a": "cpu-int8", "a_tokenizer": "cpu-fp32"}


def test_the_settings_of_a_model_go_before_those_of_the_service(place):
    parts = [place.part("a", model="m-1"), place.part("b", model="m-2")]
    place.engine("a")
    place.engine("b")
    assert place.chosen(*parts, profile="cpu-int8", m__2="cpu-fp32") == {"a": "cpu-int8", "b": "cpu-fp32"}
    assert place.chosen(*parts, m__2="cpu-int8", b="cpu-fp32") == {"a": "cpu-fp32", "b": "cpu-fp32"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"profile": "cpu-fp23"},
            "profile 'cpu-fp23' does not exist; known are tensorrt-fp8, .*'a' has: tensorrt-fp16",
        ),
        (
            {"profile": "tensorrt-int8"},
            "profile 'tensorrt-int8' does not exist for 'a'; it has: tensorrt-fp16, cpu-int8",
        ),
        ({"a": "cpu-fp23"}, "profile 'cpu-fp23' does not exist"),
        ({"strange": "cpu-fp32"}, "there is no model 'strange' here; there are: m"),
        ({"a_tokenizer": "cpu-int8"}, "does not exist for 'a_tokenizer'; it has: cpu-fp32"),
        ({"profile": "tensorrt-fp16"}, "'tensorrt-fp16' cannot be used for 'a': there is no NVIDIA GPU"),
        ({"profile": "cpu-int8"}, "no engine for a with profile cpu-int8 .*run: tools/flotilla engines build a"),
    ],
)
def test_what_cannot_be_had_stops_the_start(place, settings, reason):
    parts = [place.part("a"), place.part("a_tokenizer", configs={}, graph=None)]
    with pytest.raises(StartupError, match=reason):
        place.choose(*parts, **settings)


def test_a_name_that_matches_nothing_stops_a_model_with_one_profile_too(place):
    part = place.part("a", configs={})
    assert place.chosen(part, profile="cpu-fp32") == {"a": "cpu-fp32"}
    with pytest.raises(StartupError, match="does not exist for 'a'; it has: cpu-fp32"):
        place.choose(part, profile="tensorrt-fp16")


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ({"source_sha256": "0" * 64}, "source_sha256 of the engine is '000"),
        ({"gpu_name": "NVIDIA H200"}, "gpu_name of the engine is 'NVIDIA H200', of this machine 'NVIDIA L40S'"),
        ({"compute_capability": "9.0"}, "compute_capability of the engine is '9.0', of this machine '8.9'"),
        ({"builder": "tensorrt 11.2.0.3"}, "builder of the engine is 'tensorrt 11.2.0.3', of this machine"),
        ({"platform": "linux-aarch64"}, "platform of the engine is 'linux-aarch64'"),
    ],
)
def test_a_foreign_or_stale_engine_is_refused_by_the_field(place, key, field):
    part = place.part("a")
    place.engine("a", "tensorrt-fp16", **key)
    with pytest.raises(StartupError, match=field):
        place.choose(part, machine=WITH_GPU, profile="tensorrt-fp16")
    assert place.chosen(part, machine=WITH_GPU) == {"a": "cpu-fp32"}


def test_an_engine_for_cpus_with_exact_integers_is_refused_on_others(place):
    part = place.part("a")
    older = Machine("linux-x86_64", 16 << 30, backends=frozenset({"python"}), weight_bits=7)
    place.engine("a", compute_capability="int8")
    assert place.chosen(part, profile="cpu-int8") == {"a": "cpu-int8"}
    with pytest.raises(StartupError, match="compute_capability of the engine is 'int8', of this machine 'int7'"):
        place.choose(part, machine=older, profile="cpu-int8")
    place.engine("a", compute_capability="int7+")
    for machine in (CPU_ONLY, older):
        assert place.chosen(part, machine=machine, profile="cpu-int8") == {"a": "cpu-int8"}


def test_a_damaged_engine_and_one_that_failed_the_gate_are_refused(place):
    part = place.part("a")
    engine = place.engine("a")
    engine.path("model.onnx").write_bytes(b"tampered with")
    with pytest.raises(StartupError, match="was altered"):
        place.choose(part, profile="cpu-int8")
    place.engine("a", gate=False)
    with pytest.raises(StartupError, match=r"accuracy gate refused .*top-1 lost 3 %"):
        place.choose(part, profile="cpu-int8")


def test_a_profile_that_needs_more_memory_than_there_is_is_refused(place):
    part = place.part("a")
    os.truncate(place.blob, 3 << 30)
    small = Machine("linux-x86_64", 4 << 30, backends=frozenset({"python"}))
    with pytest.raises(StartupError, match=r"needs at least 6\.1 GiB of main memory, there are 4\.0 GiB"):
        place.choose(part, machine=small, profile="cpu-fp32")


def test_the_runtime_repository_has_the_engine_and_its_profiles(place):
    part = place.part("a")
    engine = place.engine("a", "tensorrt-fp16")
    chosen = place.choose(part, machine=WITH_GPU, gpu_instances=3)
    config = materialise(place.source, place.target, [part], chosen, 2)["a"]
    assert profile_of(config) == "tensorrt-fp16"
    assert (config.instance_group[0].count, list(config.instance_group[0].profile)) == (3, ["0"])
    assert [spec.input["x"].dim[0] for spec in config.optimization.cuda.graph_spec] == [16]
    assert (place.target / "a/1/model.plan").resolve() == engine.path("model.plan")
    assert not (place.target / "a/1/model.onnx").exists()


def test_a_profile_with_files_of_its_own_fits_when_they_are_there(place):
    def files(config):
        if not place.blob.exists():
            raise ModelStoreError("no weights", "m")
        return {"model.json": f'{{"profile": "{profile_of(config)}"}}'}

    part = place.part("a", configs={"vllm-bf16-tp1": VLLM}, graph=None, other_files=files)
    chosen = place.choose(part, machine=WITH_GPU, profile="vllm-bf16-tp2")
    materialise(place.source, place.target, [part], chosen, 2)
    assert (place.target / "a/1/model.json").read_text() == '{"profile": "vllm-bf16-tp2"}'
    with pytest.raises(StartupError, match="needs 4 GPUs, this machine has 2"):
        place.choose(part, machine=WITH_GPU, profile="vllm-bf16-tp2-pp2")
    part = RuntimeModel("a", {}, folder="a", model="m", other_files=files)
    place.blob.unlink()
    with pytest.raises(StartupError, match="no weights"):
        place.choose(part, machine=WITH_GPU, profile="vllm-bf16-tp1")
    assert place.chosen(part, machine=WITH_GPU) == {"a": "cpu-fp32"}
