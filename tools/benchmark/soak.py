"""The soak: many requests in portions, the memory of every process tree after each of them."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tools.benchmark.corpus import mixed_texts
from tools.benchmark.generator import Job, measure
from tools.fleet.private import private_fleet

PORTIONS = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident set size in MB of each process after so many requests."""

    requests: int
    megabytes: dict[str, float]


@dataclass(slots=True)
class Result:
    """What the soak has seen."""

    requests: int = 0
    errors: int = 0
    rate: float = 0.0
    samples: list[Sample] = field(default_factory=list)


async def run(requests: int, clients: int, state_dir: Path, model: str, say: Callable[[str], None]) -> Result:
    """Send `requests` short and mixed texts through the whole stack; sample after each tenth."""
    texts = [text[:120] for text in mixed_texts(4000)]
    payloads = [json.dumps({"model": model, "input": text}).encode() for text in texts]
    result = Result()
    say("starting a fleet of its own")
    async with private_fleet(state_dir / "soak") as fleet:
        pids = {name: fleet.process(name).pid for name in ("gateway", "embedding")}
        began = time.perf_counter()
        for portion in range(PORTIONS):
            say(f"{result.requests} of {requests} requests, {result.errors} errors")
            share = requests // PORTIONS + (requests % PORTIONS if portion == PORTIONS - 1 else 0)
            target = f"{fleet.url}/v1/embeddings"
            measured = await measure(Job("http", target, payloads, clients, 0, warmup_seconds=0, limit=share))
            result.requests += len(measured.latencies)
            result.errors += measured.errors
            sizes = {name: size for service, pid in pids.items() for name, size in _megabytes(service, pid).items()}
            result.samples.append(Sample(result.requests, sizes))
        result.rate = result.requests / (time.perf_counter() - began)
    return result


def _megabytes(name: str, pid: int | None) -> dict[str, float]:
    """Return the resident set size of a service and, apart from it, of the Triton it has started."""
    service = psutil.Process(pid)
    triton = sum(child.memory_info().rss for child in service.children(recursive=True))
    own = {name: service.memory_info().rss / 1e6}
    return {**own, f"{name}'s Triton": triton / 1e6} if triton else own
