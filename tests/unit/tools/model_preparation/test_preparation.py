import json
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.manifest import Artifact, Manifest, Model, parse_manifest
from services.common.model_store import ModelStore
from tests.unit.tools.model_preparation.tiny_model import manifest_for, write_artifacts, write_onnx, write_source
from tools.cli.console import Problem
from tools.export.exporters import EXPORTERS
from tools.model_preparation import export_environment
from tools.model_preparation import preparation as preparation_module
from tools.model_preparation.preparation import Preparation, is_complete
from tools.model_preparation.preparation import write_artifacts as write_out
from tools.model_preparation.store_writer import StoreWriter

Command = Sequence[str | Path]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_source(tmp_path / "origin")
    return manifest_for(tmp_path, tmp_path / "origin", [{"type": "folder", "path": "origin"}])


@pytest.fixture
def model(manifest: Manifest) -> Model:
    return manifest.model("tiny")


def exporter(write: Callable[[Path], None], made: list[list[str]]) -> Callable[..., tuple[int, list[str]]]:
    """Stand in for the exporter's process: it writes artifacts and facts, and its command is noted."""

    def run(command: Command, *_: Any, **__: Any) -> tuple[int, list[str]]:
        made.append([str(part) for part in command])
        out = Path(made[-1][made[-1].index("--out") + 1])
        out.rmdir()
        write(out)
        (out / "facts.json").write_text('{"opset": 17}')
        return 0, []

    return run


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which environments are built, instead of building them."""
    made: list[str] = []
    monkeypatch.setattr(export_environment.ExportEnvironments, "_build", lambda _self, extra: made.append(extra))
    return made


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch, builds: list[str]) -> list[list[str]]:
    made: list[list[str]] = []
    monkeypatch.setattr(preparation_module, "run", exporter(write_artifacts, made))
    return made


@pytest.fixture
def preparation(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preparation:
    monkeypatch.setattr(export_environment, "ENVIRONMENT_BYTES", dict.fromkeys(export_environment.ENVIRONMENT_BYTES, 0))
    return Preparation(manifest, ModelStore(tmp_path / "store"))


def test_fetch_fills_the_store_once(preparation: Preparation, model: Model, exports: list[list[str]]) -> None:
    assert preparation.fetch([model]) == [model]
    assert preparation.fetch([model]) == []
    assert len(exports) == 1 and is_complete(preparation.store, model)
    assert set(preparation.store.require("tiny", model.required_artifacts)) == set(model.required_artifacts)
    assert not list((preparation.store.root / "staging").iterdir())


def test_a_full_store_needs_neither_network_nor_sources(
    preparation: Preparation, model: Model, exports: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation.fetch([model])
    shutil.rmtree(tmp_path / "origin")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a full store must not start anything")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr(StoreWriter, "lock", refuse)
    assert preparation.fetch([model]) == []


def test_a_damaged_copy_needs_no_export(preparation: Preparation, model: Model, exports: list[list[str]]) -> None:
    preparation.fetch([model])
    StoreWriter(preparation.store).forget("tiny", ["tokenizer.json"])
    assert not is_complete(preparation.store, model)
    assert preparation.fetch([model]) == [model]
    assert len(exports) == 1 and preparation.store.damaged("tiny") == []


def test_a_lost_graph_is_exported_again(preparation: Preparation, model: Model, exports: list[list[str]]) -> None:
    preparation.fetch([model])
    preparation.store.artifact("tiny", "model.onnx").unlink()
    assert preparation.fetch([model]) == [model]
    assert len(exports) == 2


def test_a_damaged_index_is_replaced(preparation: Preparation, model: Model, exports: list[list[str]]) -> None:
    preparation.fetch([model])
    preparation.store.index_path("tiny").write_text("{", encoding="utf-8")
    assert preparation.fetch([model]) == [model]


def test_other_sources_make_the_store_outdated(
    preparation: Preparation, model: Model, exports: list[list[str]], tmp_path: Path
) -> None:
    preparation.fetch([model])
    (tmp_path / "origin" / "model.safetensors").write_bytes(b"newer")
    newer = manifest_for(tmp_path, tmp_path / "origin", [{"type": "folder", "path": "origin"}]).model("tiny")
    assert not is_complete(preparation.store, newer)
    assert preparation.fetch([newer]) == [newer] and len(exports) == 2


def test_a_refused_export_leaves_nothing(
    preparation: Preparation, model: Model, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(out: Path) -> None:
        write_artifacts(out)
        write_onnx(out / "model.onnx", table=-2 * np.eye(10, 4, dtype=np.float32))

    monkeypatch.setattr(preparation_module, "run", exporter(write, []))
    with pytest.raises(Problem, match="does not reproduce"):
        preparation.fetch([model])
    assert preparation.store.model("tiny") is None
    assert not list((preparation.store.root / "staging").glob("scratch-*"))
    assert (preparation.store.root / "staging" / "tiny" / "model.safetensors").is_file()


def test_a_small_disk_is_refused_before_the_download(
    preparation: Preparation, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(Problem, match="GB are free in") as failure:
        preparation.fetch([model])
    assert "FLOTILLA_MODEL_STORE" in failure.value.next_step


def test_exported_artifacts_can_be_written_out(
    preparation: Preparation, model: Model, exports: list[list[str]], tmp_path: Path
) -> None:
    stored = preparation.export(model)
    write_out(preparation.store, stored, tmp_path / "artifacts")
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {
        "model.onnx",
        "selftest.json",
        "tokenizer.json",
    }


def test_an_exporter_gets_folders_and_facts(preparation: Preparation, model: Model, exports: list[list[str]]) -> None:
    preparation.fetch([model])
    (command,) = exports
    assert "tools.export.sentence_encoder" in command
    assert json.loads(command[command.index("--facts") + 1])["dimensions"] == 4
    stored = preparation.store.model("tiny")
    assert stored is not None
    assert (stored.recipe["exporter"], stored.recipe["exporter_version"], stored.recipe["opset"]) == (
        "sentence-encoder",
        1,
        17,
    )


def test_a_newer_exporter_makes_the_store_outdated(
    preparation: Preparation, model: Model, exports: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation.fetch([model])
    newer = replace(EXPORTERS["sentence-encoder"], version=2)
    monkeypatch.setitem(EXPORTERS, "sentence-encoder", newer)
    assert not is_complete(preparation.store, model)


def test_models_of_one_environment_share_it(
    preparation: Preparation, manifest: Manifest, exports: list[list[str]], builds: list[str]
) -> None:
    table = manifest.model("tiny").model_dump(mode="json", by_alias=True, exclude={"id", "vision"}, exclude_none=True)
    for artifact in table["artifacts"].values():
        artifact.pop("copy" if artifact.get("exporter") else "exporter", None)
    other = json.loads(json.dumps(table).replace("sentence-encoder", "centerface"))
    document = {"models": {"first": table, "second": other, "third": table}}
    models = list(parse_manifest(document, manifest.folder / "models.toml").models.values())
    prepared = replace(preparation, manifest=manifest).fetch(models)
    assert [model.id for model in prepared] == ["first", "third", "second"]
    assert builds == ["export", "export-onnx"]
    assert not list((preparation.store.root / "staging").iterdir())


def test_an_unknown_exporter(preparation: Preparation, model: Model) -> None:
    unknown = model.model_copy(update={"artifacts": {"model.onnx": Artifact(exporter="magic")}})
    with pytest.raises(Problem, match="there is no exporter 'magic'"):
        preparation.fetch([unknown])


def test_what_one_backend_alone_needs_is_made_when_asked_for(
    preparation: Preparation, model: Model, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[str]] = []

    def write(out: Path) -> None:
        write_artifacts(out)
        (out / "extra.bin").write_bytes(b"extra")

    def asked_for() -> list[str]:
        return made[-1][made[-1].index("--artifacts") + 1 :]

    monkeypatch.setattr(preparation_module, "run", exporter(write, made))
    extra = {"extra.bin": Artifact(exporter="sentence-encoder", backend="other")}
    both = model.model_copy(update={"artifacts": {**model.artifacts, **extra}})
    preparation.fetch([both])
    assert asked_for() == ["model.onnx", "selftest.json"]
    assert is_complete(preparation.store, both)
    assert not is_complete(preparation.store, both, ["other"])
    wanting = replace(preparation, backends=("other",))
    assert wanting.fetch([both]) == [both]
    assert asked_for() == ["model.onnx", "selftest.json", "extra.bin"]
    assert wanting.fetch([both]) == []
    assert len(made) == 2
    preparation.export(both)
    assert is_complete(preparation.store, both, ["other"]), "it is kept"
