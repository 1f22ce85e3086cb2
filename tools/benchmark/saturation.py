"""Is `flotilla_saturation` honest? Finds the capacity of a service, offers shares of it and reads the gauge meanwhile.

Capacity is the highest steady rate of requests at which 95 % of calls are in time (`flotilla_latency_objective_total`),
none is refused, and the queue does not grow. CPU utilisation is read beside the gauge.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from services.common.cpu import available_cpus
from services.common.load import WINDOW_SECONDS
from services.common.manifest import Manifest
from tools.benchmark.corpus import mixed_texts
from tools.benchmark.generator import Job, Measurement, Post, measure
from tools.benchmark.images import multipart, photograph_files
from tools.benchmark.soak import SPEECH
from tools.benchmark.speech import transcription
from tools.cli.console import Problem
from tools.fleet.private import PrivateFleet, private_fleet

IN_TIME = 0.95
GROWTH = 0.02
"""Seconds by which latency may grow in a second of load: more is a rate so much above what gets done."""
BOUNDS = {0.5: (0.4, 0.6), 1.0: (0.9, 1.1), 2.0: (1.5, float("inf"))}
"""What the gauge has to read, by the share of capacity that is offered."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. Times in seconds."""

    service: str
    clients: int
    """Concurrent clients of the first look, who offer more than can be done."""
    trials: int
    """Rates that are tried in the search for capacity."""
    hold: float
    """How long each rate is tried and each share offered: in a shorter trial, what is too much may not be late yet."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read at one moment."""

    at: float
    """Seconds since the first call of the share was seen."""
    saturation: float
    offered: float
    capacity: float
    cpu: float
    """CPU the service and its Triton used since the reading before, of all there is."""


@dataclass(slots=True)
class Share:
    """One share of capacity."""

    share: float
    rate: float
    """Requests a second."""
    readings: list[Reading] = field(default_factory=list)
    in_time: float = 0.0
    errors: int = 0

    @property
    def settled(self) -> list[Reading]:
        """The readings from 15 s on, while the load lasts."""
        return [reading for reading in self.readings if reading.at >= WINDOW_SECONDS]

    def at_fifteen(self) -> float:
        """Return what the gauge read after 15 s."""
        return next((reading.saturation for reading in self.settled), float("nan"))

    def mean(self, name: str) -> float:
        """Return the mean of a field of the settled readings."""
        values = [getattr(reading, name) for reading in self.settled]
        return float(sum(values) / len(values)) if values else float("nan")

    @property
    def met(self) -> bool:
        """Whether the gauge read what it has to, after 15 s and on average from then on."""
        low, high = BOUNDS[self.share]
        return low <= self.at_fifteen() <= high and low <= self.mean("saturation") <= high


@dataclass(slots=True)
class Result:
    """What was found."""

    service: str
    capacity: float = 0.0
    """Requests a second."""
    trials: list[tuple[float, float, bool]] = field(default_factory=list)
    """Rate, share in time, whether it was sustained."""
    shares: list[Share] = field(default_factory=list)


async def run(plan: Plan, state_dir: Path, manifest: Manifest, say: Callable[[str], None]) -> Result:
    """Find the capacity of the service of a private fleet, then offer each share of it."""
    models = manifest.for_service(plan.service)
    posts = requests_for(plan.service, models[0].id if models else "")
    say("starting a fleet of its own")
    async with private_fleet(state_dir / "saturation", services=[plan.service]) as fleet:
        harness = _Harness(plan, fleet.url, posts, _Probe(fleet, plan.service), say)
        result = Result(plan.service)
        result.capacity = await harness.capacity(result.trials)
        for share in BOUNDS:
            result.shares.append(await harness.offer(Share(share, share * result.capacity)))
    return result


def requests_for(service: str, model: str) -> list[Post]:
    """Return the requests that capacity is counted in: alike enough that a rate of them is a rate of work."""
    match service:
        case "embedding":
            return [_json("/v1/embeddings", {"model": model, "input": text}) for text in mixed_texts(2000)]
        case "llm":
            asked = {"model": model, "max_tokens": 32, "ignore_eos": True, "temperature": 0}
            chats = ([{"role": "user", "content": text[:200]}] for text in mixed_texts(500))
            return [_json("/v1/chat/completions", {**asked, "messages": chat}) for chat in chats]
        case "asr":
            return [transcription(SPEECH.read_bytes(), {"model": model, "language": "en"})]
        case "vision":
            return [multipart("/v1/classify", file) for file in photograph_files()]
    raise Problem(f"there is no service {service} with a saturation", "choose: asr, embedding, llm, vision")


def _json(path: str, body: object) -> Post:
    return Post(path, json.dumps(body).encode())


@dataclass(frozen=True, slots=True)
class _Harness:
    """Offers load to one service and looks at it."""

    plan: Plan
    url: str
    posts: Sequence[Post]
    probe: "_Probe"
    say: Callable[[str], None]

    async def capacity(self, trials: list[tuple[float, float, bool]]) -> float:
        """Return the highest rate that is sustained, by bisection around what many clients get through."""
        plan = self.plan
        self.say("as fast as it goes")
        first = await measure(Job("http", self.url, self.posts, plan.clients, plan.hold / 3))
        if not first.latencies:
            raise Problem(f"no request succeeded: {first.first_error}", "see the log of the service")
        low, high, rate = 0.0, 1.5 * first.rate, first.rate
        for number in range(plan.trials):
            self.say(f"trial {number + 1} of {plan.trials}: {rate:.3g} requests/s")
            await self.probe.quiet()
            before = await self.probe.calls()
            measured = await self._load(rate)
            in_time = _share_in_time(before, await self.probe.calls())
            grows = _growth(measured.latencies, plan.hold) > GROWTH
            sustained = in_time >= IN_TIME and not measured.errors and not grows
            trials.append((rate, in_time, sustained))
            low, high = (rate, high) if sustained else (low, rate)
            rate = (low + high) / 2
        if not low:
            raise Problem(f"{trials[-1][0]:.3g} requests/s are too many already", "give more --trials")
        return low

    async def offer(self, share: Share) -> Share:
        """Offer a share and fill in what was read."""
        self.say(f"{share.share:g} x capacity: {share.rate:.3g} requests/s")
        await self.probe.quiet()
        before = await self.probe.calls()
        offering = asyncio.create_task(self._load(share.rate))
        began: float | None = None
        while not offering.done():
            reading = await self.probe.read(began)
            if began is None and reading.offered > 0:
                began = time.monotonic()
            elif began is not None and reading.at <= self.plan.hold:
                share.readings.append(reading)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(offering), 1.0)
        share.errors = (await offering).errors
        share.in_time = _share_in_time(before, await self.probe.calls())
        return share

    async def _load(self, rate: float) -> Measurement:
        return await measure(Job("http", self.url, self.posts, 1, self.plan.hold, arrivals=rate))


def _share_in_time(before: tuple[float, float], after: tuple[float, float]) -> float:
    met, missed = (late - early for early, late in zip(before, after, strict=True))
    return met / (met + missed) if met + missed else 0.0


def _growth(latencies: Sequence[float], seconds: float) -> float:
    """Return by how much latency grew in a second of a load, from the second quarter of its calls to the last."""
    quarter = len(latencies) // 4
    if not quarter:
        return 0.0
    return (median(latencies[-quarter:]) - median(latencies[quarter : 2 * quarter])) / (seconds / 2)


class _Probe:
    """Reads the service's own page, and the CPU time of its processes."""

    def __init__(self, fleet: PrivateFleet, service: str) -> None:
        process = fleet.process(service)
        self._url = f"http://127.0.0.1:{process.http_port}/metrics"
        self._process = psutil.Process(process.pid)
        self._cpu, self._at = self._used(), time.monotonic()

    async def read(self, began: float | None) -> Reading:
        """Return what the gauges say now."""
        found = await self._samples()
        now, used = time.monotonic(), self._used()
        cores = (used - self._cpu) / max(1e-3, now - self._at)
        self._cpu, self._at = used, now
        names = ("flotilla_saturation", "flotilla_load_offered", "flotilla_load_capacity")
        saturation, offered, capacity = (found[name, ""] for name in names)
        return Reading(now - (began or now), saturation, offered, capacity, cores / available_cpus())

    async def calls(self) -> tuple[float, float]:
        """Return how many calls have been in time so far, and how many not; those refused are among the latter."""
        found = await self._samples()
        name = "flotilla_latency_objective_total"
        refused = sum(value for (sample, _), value in found.items() if sample == "flotilla_admission_rejected_total")
        return found.get((name, "true"), 0.0), found.get((name, "false"), 0.0) + refused

    async def quiet(self) -> None:
        """Return when nothing was offered for 15 s."""
        while (await self.read(None)).offered > 0:  # noqa: ASYNC110  # it is asked over HTTP
            await asyncio.sleep(1)

    async def _samples(self) -> dict[tuple[str, str], float]:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            text = (await http.get(self._url)).text
        found: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = sample.name, sample.labels.get("met", "")
                found[key] = found.get(key, 0.0) + sample.value
        return found

    def _used(self) -> float:
        total = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


def plot(result: Result, path: Path) -> bool:
    """Draw gauge and CPU over time, a part for each share; return whether matplotlib is here to do it."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return False
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, share in zip(figure.subplots(1, len(result.shares), sharey=True), result.shares, strict=True):
        times = [reading.at for reading in share.readings]
        low, high = BOUNDS[share.share]
        axes.axhspan(low, min(high, 3.0), color="tab:green", alpha=0.15, label="has to read")
        axes.plot(times, [reading.saturation for reading in share.readings], label="flotilla_saturation")
        axes.plot(times, [reading.cpu for reading in share.readings], label="CPU utilisation", linestyle=":")
        axes.axvline(WINDOW_SECONDS, color="grey", linewidth=0.5)
        axes.set(title=f"{share.share:g} x capacity ({share.rate:.3g}/s)", xlabel="seconds", ylim=(0, 3))
    figure.suptitle(f"{result.service}: capacity {result.capacity:.3g} requests/s")
    figure.axes[0].legend(loc="upper left", fontsize="small")
    figure.savefig(path, dpi=110)
    return True
