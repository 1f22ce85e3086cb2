"""Publishing: whole or not at all, one builder at a time, and nothing left of one that died."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from services.common.engines import EngineCache
from services.common.settings import REPOSITORY_ROOT
from tests.unit.tools.engines.samples import key, publish
from tools.cli import writer_lock
from tools.engines.publish import EnginePublisher

HOLDER = """
import sys, time
from pathlib import Path
from services.common.engines import EngineCache
from tools.engines.publish import EnginePublisher
publisher = EnginePublisher(EngineCache(Path(sys.argv[1])))
with publisher.workplace() as workplace, publisher.lock("building toy tensorrt-fp16"), publisher.scratch() as scratch:
    (scratch / "half").write_bytes(b"half a plan")
    (workplace / "environment").write_bytes(b"large")
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(store: Path) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY_ROOT,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY_ROOT}:{REPOSITORY_ROOT / 'proto'}"},
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    return holder


def hidden(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "engines").glob(".*") if path.name != ".lock")


def test_what_was_published_is_found_and_nothing_else_is_left(tmp_path: Path) -> None:
    engine = publish(tmp_path)
    assert EngineCache(tmp_path).all() == [engine]
    engine.check_files()
    assert hidden(tmp_path) == []


def test_publishing_again_replaces_a_damaged_engine(tmp_path: Path) -> None:
    publish(tmp_path).path("model.plan").write_bytes(b"other")
    publish(tmp_path).check_files()
    assert len(EngineCache(tmp_path).all()) == 1
    assert hidden(tmp_path) == []


def test_a_full_disk_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path)
    assert EngineCache(tmp_path).all() == []
    assert hidden(tmp_path) == []


def test_a_builder_killed_in_the_middle_leaves_nothing_published_and_the_next_cleans_up(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert EngineCache(tmp_path).all() == [] and EngineCache(tmp_path).damaged() == []
    assert [name.partition("-")[0] for name in hidden(tmp_path)] == [".building", ".environments"]
    publish(tmp_path)
    assert hidden(tmp_path) == []


def test_a_second_builder_waits_and_says_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = start_holder(tmp_path)
    entered, told = threading.Event(), threading.Event()
    said: list[str] = []

    def tell(line: str, **_: object) -> None:
        said.append(line)
        told.set()

    monkeypatch.setattr(writer_lock.console, "print", tell)

    def second() -> None:
        with EnginePublisher(EngineCache(tmp_path)).lock("second"):
            entered.set()

    waiting = threading.Thread(target=second)
    try:
        waiting.start()
        told.wait()
        assert not entered.is_set()
        assert [name.partition("-")[0] for name in hidden(tmp_path)] == [".building", ".environments"], "it is alive"
    finally:
        holder.communicate(b"")
        waiting.join()
    assert entered.is_set()
    assert f"process {holder.pid} on " in said[0] and "building toy tensorrt-fp16, since 20" in said[0]


def publish_many(store: str, number: int) -> None:
    for _ in range(5):
        publish(Path(store), number % 2, content=b"plan" * 1000)


def test_many_builders_take_turns(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=publish_many, args=(str(tmp_path), number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    engines = EngineCache(tmp_path).all()
    assert {engine.key for engine in engines} == {key(0), key(1)}
    for engine in engines:
        engine.check_files()
    assert hidden(tmp_path) == []


def test_timing_caches_are_kept_apart_by_release_and_gpu(tmp_path: Path) -> None:
    publisher = EnginePublisher(EngineCache(tmp_path))
    paths = {
        publisher.timing_cache(*names) for names in (("tensorrt 11.4", "H100"), ("tensorrt 11.5", "H100"), ("t", "a/b"))
    }
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path / "engines" / "timing"}
