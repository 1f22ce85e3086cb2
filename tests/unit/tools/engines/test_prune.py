"""Pruning by age, by size, and of what is damaged."""

import os
import time
from datetime import timedelta
from pathlib import Path

from services.common.engines import SIDECAR, Engine, EngineCache
from tests.unit.tools.engines.samples import key, publish
from tools.engines.prune import chosen_for_pruning, remove_damaged, remove_timing_caches
from tools.engines.publish import EnginePublisher

DAY = 86_400


def aged(store: Path) -> list[Engine]:
    """Publish engines that were used 0, 10 and 20 days ago, of 100 bytes each."""
    for number in range(3):
        sidecar = publish(store, number, b"x" * 100).path(SIDECAR)
        used = time.time() - number * 10 * DAY
        os.utime(sidecar, (used, used))
    return EngineCache(store).all()


def numbers(engines: list[Engine]) -> list[str]:
    return [engine.key.recipe for engine in engines]


def test_by_age(tmp_path: Path) -> None:
    engines = aged(tmp_path)
    assert numbers(chosen_for_pruning(engines, timedelta(days=15), None)) == ["2"]
    assert numbers(chosen_for_pruning(engines, timedelta(days=5), None)) == ["1", "2"]
    assert chosen_for_pruning(engines, timedelta(days=30), None) == []


def test_by_size_the_longest_unused_go_first(tmp_path: Path) -> None:
    engines = aged(tmp_path)
    assert numbers(chosen_for_pruning(engines, None, 250)) == ["2"]
    assert numbers(chosen_for_pruning(engines, None, 0)) == ["0", "1", "2"]
    assert chosen_for_pruning(engines, None, 300) == []
    assert numbers(chosen_for_pruning(engines, timedelta(days=15), 100)) == ["1", "2"]


def test_an_engine_that_a_service_started_on_is_used(tmp_path: Path) -> None:
    sidecar = publish(tmp_path).path(SIDECAR)
    os.utime(sidecar, (0, 0))
    assert chosen_for_pruning(EngineCache(tmp_path).all(), timedelta(days=5), None)
    EngineCache(tmp_path).require("toy", "tensorrt-fp16", {})
    assert chosen_for_pruning(EngineCache(tmp_path).all(), timedelta(days=5), None) == []


def test_the_damaged_leave_and_the_whole_stay(tmp_path: Path) -> None:
    engines = [publish(tmp_path, number) for number in range(3)]
    engines[0].path("model.plan").write_bytes(b"other")
    engines[1].path(SIDECAR).write_bytes(b"{")
    publisher = EnginePublisher(EngineCache(tmp_path))
    with publisher.lock("pruning"):
        removed = remove_damaged(publisher)
    assert {folder for folder, _ in removed} == {engines[0].folder, engines[1].folder}
    assert any("altered" in reason for _, reason in removed) and any("cut short" in reason for _, reason in removed)
    assert [engine.key for engine in EngineCache(tmp_path).all()] == [key(2)]


def test_timing_caches_leave_only_when_asked(tmp_path: Path) -> None:
    publisher = EnginePublisher(EngineCache(tmp_path))
    cache = publisher.timing_cache("tensorrt 11.4.0.1", "H100")
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"measured")
    with publisher.lock("pruning"):
        remove_damaged(publisher)
        assert cache.exists()
        remove_timing_caches(publisher)
    assert not cache.parent.exists()
