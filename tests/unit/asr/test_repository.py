from pathlib import Path

import pytest

from services.asr.repository import engine_files, runtime_model
from services.common.manifest import Model, load_manifest
from services.common.runtime_repository import MODEL_REPOSITORY, materialise

FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt", "selftest.npz", "LICENSE")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name in FILES:
        (tmp_path / name).write_text(name)
    return {name: tmp_path / name for name in FILES}


def materialised(model: Model, files: dict[str, Path], folder: Path) -> set[str]:
    configs = materialise(MODEL_REPOSITORY / "asr", folder, [runtime_model(model, files, 7)], None, 7)
    (config,) = configs.values()
    assert config.name == model.triton_name
    assert config.parameters["threads"].string_value == "7"
    assert [group.count for group in config.instance_group] == [1]
    return {path.name for path in (folder / model.triton_name / "1").iterdir()}


@pytest.mark.parametrize("model", load_manifest().for_service("asr"), ids=lambda model: model.id)
def test_one_instance_has_all_threads(model: Model, files: dict[str, Path], tmp_path: Path) -> None:
    found = materialised(model, files, tmp_path / "repository")
    assert found >= {"model.py", "model.bin", "config.json", "tokenizer.json", "vocabulary.txt"}
    assert "LICENSE" not in found


def test_a_model_of_ones_own_runs_on_the_default_folder(files: dict[str, Path], tmp_path: Path) -> None:
    own = load_manifest().model("whisper-base").model_copy(update={"id": "my-whisper"})
    assert "model.py" in materialised(own, files, tmp_path / "repository")


def test_either_format_of_the_vocabulary_will_do(files: dict[str, Path]) -> None:
    assert engine_files(files)["vocabulary.txt"] == files["vocabulary.txt"]
    newer = {name.replace("vocabulary.txt", "vocabulary.json"): path for name, path in files.items()}
    assert "vocabulary.json" in engine_files(newer) and "vocabulary.txt" not in engine_files(newer)
    with pytest.raises(KeyError, match=r"vocabulary\.txt"):
        engine_files({name: path for name, path in files.items() if name != "vocabulary.txt"})
