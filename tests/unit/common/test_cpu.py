import os

import pytest

from services.common.cpu import available_cpus


@pytest.mark.parametrize("text", [None, "max 100000", "nonsense", "x y", ""])
def test_without_a_quota_the_affinity_counts(tmp_path, text):
    quota = tmp_path / "cpu.max"
    if text is not None:
        quota.write_text(text)
    assert available_cpus(quota) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("text", "cpus"), [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2)])
def test_a_quota_is_rounded_up(tmp_path, monkeypatch, text, cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert available_cpus(quota) == cpus
