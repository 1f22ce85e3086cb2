"""The gateway benchmark's rows and goals."""

import math

import pytest

from tools.benchmark.gateway_rows import DIRECT, GATEWAY, LITELLM, Sample, goals, rows
from tools.benchmark.generator import Measurement
from tools.benchmark.instant import DELTAS


def sample(sent: int, cpu: float, *latencies: float, errors: int = 0) -> Sample:
    measured = Measurement(list(latencies), errors, "broken" if errors else "", 1.0, 0.1, sent)
    return Sample(measured, cpu)


def test_requests_for_each_core_are_held_against_the_peer_in_the_same_round():
    gateway, peer = rows({GATEWAY: [sample(1000, 1.0), sample(600, 1.0)], LITELLM: [sample(100, 1.0), sample(50, 0.5)]})
    assert gateway.per_core == 800
    assert gateway.of_peer == pytest.approx(8)
    assert gateway.cpu_ms == pytest.approx(1.25)
    assert peer.of_peer == 1


def test_added_latency_is_held_against_the_service_in_the_same_round():
    gateway, direct = rows({GATEWAY: [sample(2, 1.0, 0.003, 0.005)], DIRECT: [sample(2, 0.0, 0.001, 0.001)]})
    assert gateway.added_p50 == pytest.approx(4)
    assert (direct.added_p50, direct.added_p99) == (0, 0)
    assert math.isnan(direct.per_core)


def test_goals_are_those_that_were_measured():
    (row,) = rows({GATEWAY: [sample(1000, 1.0, 0.002, errors=1)]})
    assert (row.errors, row.first_error) == (1, "broken")
    assert goals([row], [], [], []) == []
    (events,) = goals([], [row], [], [])
    assert events.reached == pytest.approx(1000 * DELTAS)
    (memory,) = goals([], [], [], [100.0, 104.0])
    assert memory.met
    assert not goals([], [], [], [100.0, 106.0])[0].met
