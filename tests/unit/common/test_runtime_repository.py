import pytest

from services.common.runtime_repository import RuntimeModel, materialise, read_config
from services.common.server import StartupError

CONFIG = 'name: "m" backend: "python" max_batch_size: 8 instance_group [ { kind: KIND_CPU count: 1 } ]'


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source/m"
    (folder / "1").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "1/model.py").write_text("# code")
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "configs/gpu.pbtxt").write_text(CONFIG.replace("KIND_CPU", "KIND_GPU"))
    (tmp_path / "blob").write_text("weights")
    return tmp_path / "source"


def build(source, profile=None, threads=3):
    models = [RuntimeModel("m", {"model.onnx": source.parent / "blob"}, folder="m")]
    return materialise(source, source.parent / "target", models, profile, threads)["m"]


def test_code_and_artifacts_are_linked_and_instances_set(source):
    config = build(source)
    target = source.parent / "target/m"
    assert config.instance_group[0].count == 3
    assert read_config(target / "config.pbtxt") == config
    assert (target / "1/model.py").resolve() == source / "m/1/model.py"
    assert (target / "1/model.onnx").read_text() == "weights"


def test_a_variant_is_taken_and_gpu_instances_are_left_alone(source):
    assert build(source, "gpu").instance_group[0].count == 1


def test_fixed_instances_stay(source):
    text = CONFIG + ' parameters { key: "instances" value { string_value: "fixed" } }'
    (source / "m/config.pbtxt").write_text(text)
    assert build(source).instance_group[0].count == 1


def test_what_was_there_before_is_gone(source):
    (source.parent / "target/old").mkdir(parents=True)
    build(source)
    assert not (source.parent / "target/old").exists()


def test_a_misspelt_profile_names_those_there_are(source):
    with pytest.raises(StartupError, match="cpu-fp32, gpu"):
        build(source, "gpo")


def test_a_config_that_does_not_parse_names_its_file(source):
    (source / "m/config.pbtxt").write_text("name: ")
    with pytest.raises(StartupError, match=r"m/config\.pbtxt"):
        build(source)
