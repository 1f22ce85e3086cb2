import multiprocessing
import os
from pathlib import Path

import pytest

from services.common.model_store import ModelStore
from tools.model_preparation.store_writer import StoreWriter


def publish_many(root: str, number: int) -> None:
    writer = StoreWriter(ModelStore(Path(root)))
    for _ in range(5):
        with writer.lock("a test"), writer.scratch() as scratch:
            assert len(list(scratch.parent.glob("scratch-*"))) == 1, "another writer is at work"
            (scratch / "a").write_bytes(b"same" * 100)
            (scratch / "b").write_bytes(str(number).encode() * 100)
            writer.publish(f"m{number}", {"a": scratch / "a", "b": scratch / "b"}, {})


def test_concurrent_writers_take_turns(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=publish_many, args=(str(tmp_path), number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = ModelStore(tmp_path)
    assert all(store.artifact(f"m{number}", "b").read_bytes() == str(number).encode() * 100 for number in range(3))
    assert len(list((tmp_path / "blobs" / "sha256").iterdir())) == 4


def test_a_failure_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(tmp_path / "store")
    writer = StoreWriter(store)
    (tmp_path / "a").write_bytes(b"a")

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with writer.lock("a test"), pytest.raises(OSError):
        writer.publish("m", {"a": tmp_path / "a"}, {})
    assert store.model("m") is None
    assert [path for path in store.root.rglob("*") if path.is_file()] == [store.root / ".lock"]


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    writer = StoreWriter(store)
    kept = writer.keep("m")
    (tmp_path / "staging" / "scratch-dead").mkdir()
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "blobs" / "sha256" / ".partial-dead").touch()
    with writer.lock("a test"):
        assert kept.is_dir()
        assert not (tmp_path / "staging" / "scratch-dead").exists()
        assert not list((tmp_path / "blobs" / "sha256").iterdir())


def test_a_damaged_blob_is_replaced(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    writer = StoreWriter(store)
    (tmp_path / "a").write_bytes(b"abc")
    writer.publish("m", {"a": tmp_path / "a"}, {})
    store.artifact("m", "a").write_bytes(b"xyz")
    writer.publish("m", {"a": tmp_path / "a"}, {})
    assert store.artifact("m", "a").read_bytes() == b"abc"


def test_forgetting_keeps_the_rest(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    writer = StoreWriter(store)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    writer.publish("m", {"a": tmp_path / "a", "b": tmp_path / "b"}, {"k": 1})
    writer.forget("m", ["a"])
    stored = store.model("m")
    assert stored is not None and set(stored.artifacts) == {"b"} and stored.recipe == {"k": 1}
