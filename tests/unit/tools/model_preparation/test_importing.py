import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from services.common.manifest import Model
from services.common.model_store import ModelStore
from tests.unit.tools.model_preparation.tiny_model import manifest_for, write_artifacts, write_onnx, write_source
from tools.cli.console import Problem
from tools.model_preparation.importing import import_artifacts
from tools.model_preparation.preparation import is_complete


@pytest.fixture
def model(tmp_path: Path) -> Model:
    write_source(tmp_path / "origin")
    return manifest_for(tmp_path, tmp_path / "origin", [{"type": "folder", "path": "origin"}]).model("tiny")


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    write_artifacts(tmp_path / "artifacts")
    return tmp_path / "artifacts"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def test_a_folder(model: Model, artifacts: Path, store: ModelStore) -> None:
    import_artifacts(model, artifacts, store)
    assert is_complete(store, model)


def test_a_tar_archive_of_the_folder(model: Model, artifacts: Path, store: ModelStore, tmp_path: Path) -> None:
    archive = tmp_path / "artifacts.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(artifacts, "some/folder")
    import_artifacts(model, archive, store)
    assert is_complete(store, model)


def test_a_missing_artifact(model: Model, artifacts: Path, store: ModelStore) -> None:
    (artifacts / "selftest.json").unlink()
    with pytest.raises(Problem, match=r"selftest\.json is missing"):
        import_artifacts(model, artifacts, store)
    assert store.model("tiny") is None


def test_a_graph_that_computes_something_else(model: Model, artifacts: Path, store: ModelStore) -> None:
    write_onnx(artifacts / "model.onnx", np.eye(10, 4, dtype=np.float32) + 0.1)
    with pytest.raises(Problem, match="does not reproduce"):
        import_artifacts(model, artifacts, store)


def test_a_graph_with_other_tensors(model: Model, artifacts: Path, store: ModelStore) -> None:
    write_onnx(artifacts / "model.onnx", output="embedding")
    with pytest.raises(Problem, match="expected one float32 sentence_embedding"):
        import_artifacts(model, artifacts, store)


@pytest.mark.parametrize("content", ["", "{}", '{"cases": [{"token_ids": [1]}]}', '{"cases": []}'])
def test_a_broken_selftest(model: Model, artifacts: Path, store: ModelStore, content: str) -> None:
    (artifacts / "selftest.json").write_text(content, encoding="utf-8")
    with pytest.raises(Problem, match="not a self-test"):
        import_artifacts(model, artifacts, store)


def test_token_ids_beyond_the_vocabulary(model: Model, artifacts: Path, store: ModelStore) -> None:
    cases = [{"text": "t", "token_ids": [99], "vector": [1.0, 0.0, 0.0, 0.0]}]
    (artifacts / "selftest.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    with pytest.raises(Problem, match="fails on the token ids"):
        import_artifacts(model, artifacts, store)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_damaged_files(model: Model, artifacts: Path, store: ModelStore, name: str) -> None:
    (artifacts / name).write_bytes(b"damaged")
    with pytest.raises(Problem, match="refused"):
        import_artifacts(model, artifacts, store)
    assert store.model("tiny") is None


def test_neither_folder_nor_archive(model: Model, store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(Problem, match="neither a folder nor a readable tar archive"):
        import_artifacts(model, tmp_path / "file", store)
    with pytest.raises(Problem, match="no such file or folder"):
        import_artifacts(model, tmp_path / "absent", store)
