import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore
from tests.unit.tools.model_preparation.tiny_model import manifest_for, write_artifacts, write_onnx, write_source
from tools.cli.console import Problem
from tools.export.sentence_encoder import EXPORTER, EXPORTER_VERSION
from tools.model_preparation.preparation import Preparation, is_complete
from tools.model_preparation.preparation import write_artifacts as write_out
from tools.model_preparation.store_writer import StoreWriter

FACTS = {"exporter": EXPORTER, "exporter_version": EXPORTER_VERSION}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_source(tmp_path / "origin")
    return manifest_for(tmp_path, tmp_path / "origin", [{"type": "folder", "path": "origin"}])


@pytest.fixture
def model(manifest: Manifest) -> Model:
    return manifest.model("tiny")


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Replace the exporter, which needs torch, by one that writes a tiny graph."""
    made: list[Path] = []

    def export(_self: Any, _model: Model, source: Path, out: Path, _scratch: Path) -> dict[str, Any]:
        assert (source / "model.safetensors").is_file()
        shutil.rmtree(out)
        write_artifacts(out)
        made.append(out)
        return dict(FACTS)

    monkeypatch.setattr(Preparation, "_export", export)
    yield made


@pytest.fixture
def preparation(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preparation:
    monkeypatch.setattr("tools.model_preparation.preparation.ENVIRONMENT_BYTES", 0)
    return Preparation(manifest, ModelStore(tmp_path / "store"))


def test_fetch_fills_the_store_once(preparation: Preparation, model: Model, exports: list[Path]) -> None:
    assert preparation.fetch(model) is True
    assert preparation.fetch(model) is False
    assert len(exports) == 1 and is_complete(preparation.store, model)
    assert set(preparation.store.require("tiny", model.required_artifacts)) == set(model.required_artifacts)
    assert not list((preparation.store.root / "staging").iterdir())


def test_a_full_store_needs_neither_network_nor_sources(
    preparation: Preparation, model: Model, exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation.fetch(model)
    shutil.rmtree(tmp_path / "origin")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a full store must not start anything")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr(StoreWriter, "lock", refuse)
    assert preparation.fetch(model) is False


def test_a_damaged_copy_needs_no_export(preparation: Preparation, model: Model, exports: list[Path]) -> None:
    preparation.fetch(model)
    StoreWriter(preparation.store).forget("tiny", ["tokenizer.json"])
    assert not is_complete(preparation.store, model)
    assert preparation.fetch(model) is True
    assert len(exports) == 1 and preparation.store.damaged("tiny") == []


def test_a_lost_graph_is_exported_again(preparation: Preparation, model: Model, exports: list[Path]) -> None:
    preparation.fetch(model)
    preparation.store.artifact("tiny", "model.onnx").unlink()
    assert preparation.fetch(model) is True
    assert len(exports) == 2


def test_a_damaged_index_is_replaced(preparation: Preparation, model: Model, exports: list[Path]) -> None:
    preparation.fetch(model)
    preparation.store.index_path("tiny").write_text("{", encoding="utf-8")
    assert preparation.fetch(model) is True


def test_other_sources_make_the_store_outdated(
    preparation: Preparation, model: Model, exports: list[Path], tmp_path: Path
) -> None:
    preparation.fetch(model)
    (tmp_path / "origin" / "model.safetensors").write_bytes(b"newer")
    newer = manifest_for(tmp_path, tmp_path / "origin", [{"type": "folder", "path": "origin"}]).model("tiny")
    assert not is_complete(preparation.store, newer)
    assert preparation.fetch(newer) is True and len(exports) == 2


def test_a_refused_export_leaves_nothing(
    preparation: Preparation, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(_self: Any, _model: Model, _source: Path, out: Path, _scratch: Path) -> dict[str, Any]:
        shutil.rmtree(out)
        write_artifacts(out)
        write_onnx(out / "model.onnx", table=-2 * np.eye(10, 4, dtype=np.float32))
        return dict(FACTS)

    monkeypatch.setattr(Preparation, "_export", export)
    with pytest.raises(Problem, match="does not reproduce"):
        preparation.fetch(model)
    assert preparation.store.model("tiny") is None
    assert not list((preparation.store.root / "staging").glob("scratch-*"))
    assert (preparation.store.root / "staging" / "tiny" / "model.safetensors").is_file()


def test_a_small_disk_is_refused_before_the_download(
    preparation: Preparation, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(Problem, match="GB are free in") as failure:
        preparation.fetch(model)
    assert "FLOTILLA_MODEL_STORE" in failure.value.next_step


def test_exported_artifacts_can_be_written_out(
    preparation: Preparation, model: Model, exports: list[Path], tmp_path: Path
) -> None:
    stored = preparation.export(model)
    write_out(preparation.store, stored, tmp_path / "artifacts")
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {
        "model.onnx",
        "selftest.json",
        "tokenizer.json",
    }
