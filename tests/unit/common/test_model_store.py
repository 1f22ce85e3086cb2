from pathlib import Path

import pytest

from services.common.model_store import ModelStore, ModelStoreError
from tools.model_preparation.store_writer import StoreWriter


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "store")
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    writer = StoreWriter(store)
    with writer.lock("a test"):
        writer.publish("m", {name: tmp_path / name for name in ("one", "two")}, {"exporter": "x"})
    return store


def test_artifacts_are_found_by_name(store: ModelStore) -> None:
    assert store.artifact("m", "one").read_bytes() == b"one" * 1000
    assert set(store.require("m", ["one", "two"])) == {"one", "two"}
    model = store.model("m")
    assert model is not None and model.recipe == {"exporter": "x"}
    assert store.damaged("m") == []


def test_what_is_missing_is_said_with_the_command(store: ModelStore) -> None:
    with pytest.raises(ModelStoreError, match=r"three of 'm' missing .* run: tools/models fetch m"):
        store.require("m", ["one", "three"])
    with pytest.raises(ModelStoreError, match=r"'n' is not in the store .* run: tools/models fetch n"):
        store.artifact("n", "one")


def test_a_blob_that_was_cut_short_is_missing(store: ModelStore) -> None:
    store.artifact("m", "one").write_bytes(b"o")
    with pytest.raises(ModelStoreError, match="one of 'm' missing"):
        store.artifact("m", "one")
    assert store.artifact("m", "two")


def test_an_altered_blob_is_found_by_hashing(store: ModelStore) -> None:
    path = store.artifact("m", "one")
    path.write_bytes(b"x" * path.stat().st_size)
    assert store.damaged("m") == ["one"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": 99}', '{"format": 1, "artifacts": {"a": 1}}', "\x00"])
def test_a_damaged_index_is_told(store: ModelStore, content: str) -> None:
    store.index_path("m").write_text(content, encoding="utf-8")
    with pytest.raises(ModelStoreError, match="tools/models fetch m"):
        store.model("m")


def test_an_empty_store_knows_nothing(tmp_path: Path) -> None:
    assert ModelStore(tmp_path / "absent").model("m") is None
    assert ModelStore(tmp_path / "absent").damaged("m") == []
