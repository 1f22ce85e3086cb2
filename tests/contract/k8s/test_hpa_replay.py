"""The autoscaler's published formula, with the behaviour of the manifests, over a saturation that was really measured.

tests/data/saturation_embedding.csv: `flotilla_saturation` of one embedding service on 2 shared cores, read every 5 s
while calls of four texts came at 0.3, 1.5, 2.5, 0.2 and 0 times the rate that it had been seen to sustain (for 60, 120,
60, 90, 60 s).
"""

import csv
import itertools
import math
from pathlib import Path

import pytest

from tests.contract.k8s.hpa_replay import SYNC_SECONDS, Replay, quantity
from tests.contract.k8s.manifests import SERVICES, of_kind, overlay

RECORDED = Path(__file__).resolve().parents[2] / "data" / "saturation_embedding.csv"
SPEC = of_kind(overlay("cpu"), "HorizontalPodAutoscaler")["embedding"]["spec"]
TARGET = quantity(SPEC["metrics"][0]["pods"]["target"]["averageValue"])
START_SECONDS = 45
QUIET_SECONDS = 1200


def measured() -> list[tuple[float, float]]:
    with RECORDED.open() as file:
        return [(float(row["seconds"]), float(row["saturation"])) for row in csv.DictReader(file)]


SERIES = measured()
END = SERIES[-1][0]
BUSY = [(time, value) for time, value in SERIES if 90 <= time <= 170]  # the step to 1.5, once it is in the window


def offered(time: float) -> float:
    """The last value read by then, in work of one replica."""
    return 0.0 if time > END else [value for when, value in SERIES if when <= time][-1]


@pytest.fixture(scope="module")
def history() -> list[tuple[float, float, int, int]]:
    return Replay(SPEC, START_SECONDS).run(offered, END + QUIET_SECONDS)


def test_the_recorded_load_is_what_the_replay_needs() -> None:
    assert max(value for _, value in SERIES) > 1.5
    assert max(value for time, value in SERIES if time < 60) < TARGET


def test_it_is_up_at_the_second_decision_after_the_load(history: list[tuple[float, float, int, int]]) -> None:
    crossed = next(time for time, value in SERIES if value > TARGET * 1.1)
    needed = math.ceil(min(value for _, value in BUSY) / TARGET)
    reached = next(time for time, _, _, replicas in history if replicas >= needed)
    assert reached - crossed <= 4 * SYNC_SECONDS


def test_once_the_pods_serve_the_mean_is_at_the_target(history: list[tuple[float, float, int, int]]) -> None:
    settled = [mean for time, mean, serving, replicas in history if 150 <= time <= 170 and serving == replicas]
    assert settled
    assert all(mean <= TARGET * 1.1 for mean in settled)


def test_it_never_goes_up_again_after_going_down_nor_far_beyond_the_need(
    history: list[tuple[float, float, int, int]],
) -> None:
    counts = [replicas for _, _, _, replicas in history]
    most = counts.index(max(counts))
    assert counts[:most] == sorted(counts[:most])
    assert counts[most:] == sorted(counts[most:], reverse=True)
    assert max(counts) <= math.ceil(max(value for _, value in SERIES) / TARGET / 0.9)


def test_it_goes_down_slowly_and_to_the_least(history: list[tuple[float, float, int, int]]) -> None:
    wanted = [time for time, _, _, replicas in history if offered(time) / TARGET > replicas - 1]
    falls = [later[0] for now, later in itertools.pairwise(history) if later[3] < now[3]]
    last_need = max(time for time in wanted if time < END)
    assert falls[0] > last_need
    assert all(after - before >= 60 for before, after in itertools.pairwise(falls))
    assert all(now[3] - later[3] <= 1 for now, later in itertools.pairwise(history))
    assert history[-1][3] == SPEC["minReplicas"]


@pytest.mark.parametrize("name", SERVICES)
def test_keda_and_the_adapter_behave_alike(name: str) -> None:
    scaled = of_kind(overlay("keda"), "ScaledObject")[name]["spec"]
    spec = of_kind(overlay("cpu"), "HorizontalPodAutoscaler")[name]["spec"]
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == spec["behavior"]
    assert spec["behavior"] == SPEC["behavior"]
    assert scaled["maxReplicaCount"] == spec["maxReplicas"]
    saturation, held = (float(trigger["metadata"]["threshold"]) for trigger in scaled["triggers"])
    assert saturation == quantity(spec["metrics"][0]["pods"]["target"]["averageValue"]) == TARGET
    assert held > 1
