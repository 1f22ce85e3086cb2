"""Targets measured in turn, round after round, because machines drift; the rows that come of it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tools.benchmark.generator import Job, Measurement, measure


@dataclass(frozen=True, slots=True)
class Row:
    """One target at one number of clients, over all rounds. Times in milliseconds, CPU in cores."""

    target: str
    clients: int
    rate: float
    ratio: float
    """Of the base target's rate: the median over the rounds, each held against the base in the same round."""
    p50: float
    p99: float
    generator_cores: float
    errors: int
    first_error: str


async def measure_all(jobs: Mapping[str, Job], base: str, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Measure every job in every round; `base` is the target that the others are held against."""
    results: dict[str, list[Measurement]] = {target: [] for target in jobs}
    for number in range(rounds):
        for target, job in jobs.items():
            say(f"{job.clients} clients, round {number + 1} of {rounds}: {target}")
            results[target].append(await measure(job))
    return [_row(target, jobs[target].clients, measured, results[base]) for target, measured in results.items()]


def with_clients(jobs: Mapping[str, Job], clients: int, seconds: float) -> dict[str, Job]:
    """Return the jobs with so many clients for so long."""
    return {target: replace(job, clients=clients, seconds=seconds) for target, job in jobs.items()}


def _row(target: str, clients: int, measured: Sequence[Measurement], base: Sequence[Measurement]) -> Row:
    latencies = sorted(latency for one in measured for latency in one.latencies) or [float("nan")]
    ratios = [one.rate / other.rate for one, other in zip(measured, base, strict=True) if other.rate]
    return Row(
        target,
        clients,
        rate=statistics.median(one.rate for one in measured),
        ratio=statistics.median(ratios or [float("nan")]),
        p50=statistics.median(latencies) * 1e3,
        p99=latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1e3,
        generator_cores=statistics.median(one.generator_cores for one in measured),
        errors=sum(one.errors for one in measured),
        first_error=next((one.first_error for one in measured if one.first_error), ""),
    )
