"""The soak: many requests in portions, the memory of every process tree after each of them."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.benchmark.corpus import mixed_texts
from tools.benchmark.counts import counts_at_rest
from tools.benchmark.generator import Job, Post, measure
from tools.benchmark.images import mixed_posts, photograph_files
from tools.benchmark.language_posts import language_posts
from tools.benchmark.resident import megabytes_of
from tools.benchmark.speech import mixed_transcriptions
from tools.cli.console import Problem
from tools.fleet.private import private_fleet

PORTIONS = 10
SPEECH = Path(__file__).resolve().parents[1] / "export" / "speech.flac"
"""What the self-test of the speech models hears."""


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
    first_error: str = ""
    rate: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    at_rest: dict[str, float] = field(default_factory=dict)
    """What the service still counted as running or waiting afterwards."""


def traffic(service: str, model: str) -> list[Post]:
    """Return mixed requests for a service: texts for `model`, or pictures on every route."""
    match service:
        case "embedding":
            texts = [text[:120] for text in mixed_texts(4000)]
            return [Post("/v1/embeddings", json.dumps({"model": model, "input": text}).encode()) for text in texts]
        case "vision":
            return mixed_posts(photograph_files())
        case "asr":
            return mixed_transcriptions(SPEECH.read_bytes())
        case "llm":
            return language_posts(model)
    raise Problem(f"there is no soak of {service}", "choose: asr, embedding, llm, vision")


async def run(
    service: str, posts: Sequence[Post], state_dir: Path, say: Callable[[str], None], *, requests: int, clients: int
) -> Result:
    """Send `requests` of the posts in turn through the whole stack; sample after each tenth."""
    result = Result()
    say("starting a fleet of its own")
    async with private_fleet(state_dir / "soak", services=[service]) as fleet:
        began = time.perf_counter()
        for portion in range(PORTIONS):
            say(f"{result.requests} of {requests} requests, {result.errors} errors")
            share = requests // PORTIONS + (requests % PORTIONS if portion == PORTIONS - 1 else 0)
            first = result.requests % len(posts)
            turned = [*posts[first:], *posts[:first]]
            measured = await measure(Job("http", fleet.url, turned, clients, 0, warmup_seconds=0, limit=share))
            result.requests += len(measured.latencies)
            result.errors += measured.errors
            result.first_error = result.first_error or measured.first_error
            result.samples.append(Sample(result.requests, megabytes_of(fleet)))
        result.rate = result.requests / (time.perf_counter() - began)
        result.at_rest = await counts_at_rest(fleet.process(service))
    return result
