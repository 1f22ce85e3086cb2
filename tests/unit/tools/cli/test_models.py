import errno
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.common.manifest import Model
from services.common.model_store import ModelStore
from tools.cli.console import Problem
from tools.cli.models import app
from tools.model_preparation.preparation import Preparation
from tools.model_preparation.store_writer import StoreWriter

MODEL = "all-minilm-l6-v2"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("FLOTILLA_MODEL_STORE", str(tmp_path / "store"))
    return ModelStore(tmp_path / "store")


def run(*arguments: str) -> str:
    """Run a command; a Problem comes out as it does in `flotilla`, which turns it into a line."""
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, Problem):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", ["fetch", "list", "verify", "export", "import"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"Example: tools/models {command}" in run(command, "--help")


@pytest.mark.parametrize(
    "arguments", [("fetch", "nope"), ("verify", "nope"), ("export", "nope"), ("import", "nope", ".")]
)
def test_an_unknown_model_is_told(store: ModelStore, arguments: tuple[str, ...]) -> None:
    with pytest.raises(Problem, match="unknown model 'nope'"):
        run(*arguments)


def test_a_wrong_manifest_is_told(store: ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLOTILLA_MODEL_MANIFEST", str(tmp_path / "absent.toml"))
    with pytest.raises(Problem, match=r"absent\.toml: No such file") as failure:
        run("list")
    assert failure.value.next_step


def test_an_empty_store(store: ModelStore) -> None:
    run("list")
    run("verify")
    assert not store.root.exists()


def test_verify_removes_what_is_damaged(store: ModelStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    StoreWriter(store).publish(MODEL, {"a": tmp_path / "a", "b": tmp_path / "b"}, {})
    run("verify")
    store.artifact(MODEL, "a").write_text("x", encoding="utf-8")
    with pytest.raises(Problem, match=f"damaged and removed from the store: a of {MODEL}") as failure:
        run("verify")
    assert "tools/models fetch" in failure.value.next_step
    stored = store.model(MODEL)
    assert stored is not None and set(stored.artifacts) == {"b"}
    run("verify")


def test_verify_removes_a_damaged_index(store: ModelStore) -> None:
    store.index_path(MODEL).parent.mkdir(parents=True)
    store.index_path(MODEL).write_text("{", encoding="utf-8")
    with pytest.raises(Problem, match="the index"):
        run("verify")
    assert not store.index_path(MODEL).exists()


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk of .* is full"), (errno.EROFS, "Read-only file system")]
)
def test_what_the_disk_says_is_one_line(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tools.model_preparation.preparation.Preparation.fetch", fail)
    with pytest.raises(Problem, match=message) as failure:
        run("fetch")
    assert "FLOTILLA_MODEL_STORE" in failure.value.next_step


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {"embedding", "vision"}),
        (("--service", "vision"), {"vision"}),
        (("--service", "vision", "--service", "embedding"), {"embedding", "vision"}),
        ((MODEL, "--service", "vision"), {"embedding", "vision"}),
        ((MODEL,), {"embedding"}),
    ],
)
def test_fetch_takes_models_and_services(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: set[str]
) -> None:
    fetched: list[Model] = []

    def note(_self: Preparation, models: list[Model]) -> list[Model]:
        fetched.extend(models)
        return models

    monkeypatch.setattr(Preparation, "fetch", note)
    run("fetch", *arguments)
    assert expected <= {model.service for model in fetched}
    assert not arguments or {model.service for model in fetched} == expected
    assert len({model.id for model in fetched}) == len(fetched)


def test_a_service_without_models_is_told(store: ModelStore) -> None:
    with pytest.raises(Problem, match="no model of a service 'visions'") as failure:
        run("fetch", "--service", "visions")
    assert "vision" in failure.value.next_step
