import pytest

from services.common.profiles import profile_of
from services.common.runtime_repository import (
    RuntimeModel,
    Variant,
    materialise,
    read_config,
    slots,
    variant_config,
    variants,
)
from services.common.server import StartupError

CONFIG = 'name: "m" backend: "python" max_batch_size: 8 instance_group [ { kind: KIND_CPU count: 1 } ]'
FIXED = ' parameters { key: "instances" value { string_value: "fixed" } }'


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source/m"
    (folder / "1").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "1/model.py").write_text("# code")
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "configs/gpu.pbtxt").write_text(CONFIG.replace("KIND_CPU", "KIND_GPU"))
    (tmp_path / "blob").write_text("weights")
    (tmp_path / "engine").write_text("plan")
    return tmp_path / "source"


def build(source, variant=None, threads=3):
    files = {"model.onnx": source.parent / "blob", "words.txt": source.parent / "blob"}
    models = [RuntimeModel("m", files, folder="m", graph="model.onnx")]
    return materialise(source, source.parent / "target", models, {"m": variant} if variant else None, threads)["m"]


def on_gpu(source, **facts):
    return Variant("gpu", source / "m/configs/gpu.pbtxt", **facts)


def test_code_and_artifacts_are_linked_and_instances_set(source):
    config = build(source)
    target = source.parent / "target/m"
    assert config.instance_group[0].count == 3
    assert read_config(target / "config.pbtxt") == config
    assert profile_of(config) == "cpu-fp32"
    assert (target / "1/model.py").resolve() == source / "m/1/model.py"
    assert (target / "1/model.onnx").read_text() == "weights"


def test_a_variant_is_taken_and_gpu_instances_are_left_alone(source):
    config = build(source, on_gpu(source))
    assert config.instance_group[0].count == 1
    assert profile_of(config) == "gpu"
    assert build(source, on_gpu(source, gpu_instances=4)).instance_group[0].count == 4


def test_the_files_of_an_engine_stand_in_for_the_graph(source):
    build(source, on_gpu(source, engine_files={"model.plan": source.parent / "engine"}))
    version = source.parent / "target/m/1"
    assert {path.name for path in version.iterdir()} == {"model.py", "model.plan", "words.txt"}
    assert (version / "model.plan").read_text() == "plan"


def test_fixed_instances_stay(source):
    (source / "m/config.pbtxt").write_text(CONFIG + FIXED)
    assert build(source).instance_group[0].count == 1


def test_what_was_there_before_is_gone(source):
    (source.parent / "target/old").mkdir(parents=True)
    build(source)
    assert not (source.parent / "target/old").exists()


def test_the_variants_of_a_model_begin_with_its_own(source):
    assert list(variants(source / "m")) == ["cpu-fp32", "gpu"]
    (source / "m/config.pbtxt").write_text(CONFIG + ' parameters { key: "profile" value { string_value: "cpu-int8" } }')
    assert list(variants(source / "m")) == ["cpu-int8", "gpu"]
    assert variant_config(source / "m", "gpo") is None


def test_the_configuration_for_one_gpu_is_for_more_of_them(source):
    single = source / "m/configs/vllm-bf16-tp1.pbtxt"
    single.write_text(CONFIG)
    assert variant_config(source / "m", "vllm-bf16-tp2-pp2") == single


def test_as_many_batches_run_at_once_as_there_are_instances(source):
    on_cpu, gpu = build(source), build(source, on_gpu(source, gpu_instances=2))
    assert slots([on_cpu], 3, 0) == 3
    assert slots([gpu], 3, 4) == 8
    gpu.instance_group[0].gpus[:] = [1]
    assert slots([gpu], 3, 4) == 2
    (source / "m/config.pbtxt").write_text(CONFIG + FIXED)
    assert slots([build(source)], 3, 0) == 3


def test_a_config_that_does_not_parse_names_its_file(source):
    (source / "m/config.pbtxt").write_text("name: ")
    with pytest.raises(StartupError, match=r"m/config\.pbtxt"):
        build(source)
