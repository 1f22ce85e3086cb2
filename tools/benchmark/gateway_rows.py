"""The rows and goals that come of targets measured in turn in front of services that take no time."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.benchmark.generator import Measurement
from tools.benchmark.goals import Goal
from tools.benchmark.instant import DELTAS

GATEWAY, FORWARDED, DIRECT, LITELLM = (
    "gateway (HTTP)",
    "gateway (gRPC)",
    "the service directly (gRPC)",
    "LiteLLM's proxy (HTTP)",
)
NOTHING = float("nan")
TIMES_PEER, ADDED_P50, ADDED_P99, EVENTS_PER_CORE, GROWTH = 5.0, 1.2, 8.0, 8000.0, 1.05


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement, and the CPU time in seconds that its target has used for it, the warm-up included."""

    measured: Measurement
    cpu_seconds: float

    @property
    def per_core(self) -> float:
        """Requests for each second of CPU time."""
        return self.measured.sent / self.cpu_seconds if self.cpu_seconds else NOTHING

    def quantile(self, share: float) -> float:
        """Return a quantile of the latencies in milliseconds."""
        latencies = sorted(self.measured.latencies) or [NOTHING]
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1e3


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """One target, over all rounds, each value the median over them. Latencies in milliseconds."""

    target: str
    rate: float
    """Requests a second."""
    per_core: float
    """Requests for each second of CPU time of the target; not a number where that is not what is measured."""
    of_peer: float
    """How many times LiteLLM's requests per core that is, in the same round."""
    p50: float
    p99: float
    added_p50: float
    """Over the service directly, in the same round."""
    added_p99: float
    generator_cores: float
    errors: int
    first_error: str

    @property
    def cpu_ms(self) -> float:
        """CPU time of a request in milliseconds."""
        return 1e3 / self.per_core


def rows(samples: Mapping[str, Sequence[Sample]]) -> list[GatewayRow]:
    """Return a row for every target. The samples of a target are one for each round."""
    return [_row(target, own, samples.get(LITELLM, ()), samples.get(DIRECT, ())) for target, own in samples.items()]


def goals(
    embeddings: Iterable[GatewayRow], chat: Iterable[GatewayRow], latency: Iterable[GatewayRow], memory: Sequence[float]
) -> list[Goal]:
    """Return the goals that the rows say something about; `memory` in MB from when it should stay as it is."""
    reached: list[Goal] = []
    for what, found in (("embeddings", embeddings), ("chat streams", chat)):
        for row in found:
            if row.target != GATEWAY:
                continue
            if not math.isnan(row.of_peer):
                reached.append(Goal(f"times LiteLLM's requests/s per core, {what}", TIMES_PEER, row.of_peer))
            if what == "chat streams":
                reached.append(Goal("events/s per core through the gateway", EVENTS_PER_CORE, row.per_core * DELTAS))
    for row in latency:
        if row.target == GATEWAY:
            reached.append(Goal("ms added to the median", ADDED_P50, row.added_p50, at_most=True))
            reached.append(Goal("ms added to the 99th percentile", ADDED_P99, row.added_p99, at_most=True))
    if memory:
        reached.append(
            Goal("of its memory held after a fifth of the soak", GROWTH, memory[-1] / memory[0], at_most=True)
        )
    return reached


def _row(target: str, own: Sequence[Sample], peer: Sequence[Sample], direct: Sequence[Sample]) -> GatewayRow:
    measured = [sample.measured for sample in own]
    return GatewayRow(
        target,
        rate=_median(one.rate for one in measured),
        per_core=_median(sample.per_core for sample in own),
        of_peer=_median(one.per_core / other.per_core for one, other in zip(own, peer, strict=False)),
        p50=_median(sample.quantile(0.5) for sample in own),
        p99=_median(sample.quantile(0.99) for sample in own),
        added_p50=_median(one.quantile(0.5) - other.quantile(0.5) for one, other in zip(own, direct, strict=False)),
        added_p99=_median(one.quantile(0.99) - other.quantile(0.99) for one, other in zip(own, direct, strict=False)),
        generator_cores=_median(one.generator_cores for one in measured),
        errors=sum(one.errors for one in measured),
        first_error=next((one.first_error for one in measured if one.first_error), ""),
    )


def _median(values: Iterable[float]) -> float:
    return statistics.median([*values] or [NOTHING])
