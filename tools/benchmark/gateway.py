"""The gateway benchmark: what the gateway costs in front of services that take no time, and beside LiteLLM's proxy."""

import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from flotilla.embedding.v1 import embedding_pb2

from tools.benchmark.gateway_rows import DIRECT, FORWARDED, GATEWAY, LITELLM, GatewayRow, Sample, goals, rows
from tools.benchmark.gateway_server import Instant, Server, gateway_server, instant_services
from tools.benchmark.generator import Job, Post, measure
from tools.benchmark.goals import Goal
from tools.benchmark.instant import CHAT, EMBED_METHOD, EMBEDDING
from tools.benchmark.litellm import KEY, litellm
from tools.benchmark.peer_process import PeerProcess
from tools.cli.console import Problem

TEXT = "The captain reported that the northern channel was open and that the signal lamps had been replaced."
DONE = b"data: [DONE]\n\n"
PORTIONS = 10
SETTLED_PORTIONS = 2
"""Portions of the soak after which memory must not grow."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    clients: int
    streams: int
    arrivals: float
    rounds: int
    seconds: float
    peer: str | None
    soak_requests: int
    """0: no soak."""


@dataclass(slots=True)
class Result:
    """What was measured."""

    embeddings: list[GatewayRow] = field(default_factory=list)
    chat: list[GatewayRow] = field(default_factory=list)
    latency: list[GatewayRow] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    """Resident set size of the gateway in MB after so many requests of the soak."""
    soak_errors: int = 0
    soak_first_error: str = ""
    goals: list[Goal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Target:
    """A job, and whose CPU time counts."""

    job: Job
    process: PeerProcess | None = None
    sleeps: bool = False


_Targets = Mapping[str, _Target]


async def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> Result:
    """Measure everything in one run, the targets in turn in every round."""
    result = Result()
    async with AsyncExitStack() as stack:
        say("starting a gateway and services without work")
        instant = await stack.enter_async_context(instant_services(folder))
        gateway = await stack.enter_async_context(gateway_server(folder, instant))
        peer = None
        if plan.peer == "litellm":
            running = litellm(folder / "litellm", instant.http, (EMBEDDING, CHAT), say)
            peer = await stack.enter_async_context(running)
        elif plan.peer:
            raise Problem(f"there is no peer {plan.peer}", "choose: litellm")
        if plan.rounds:
            result.embeddings = rows(await _measured(_embeddings(plan, instant, gateway, peer), plan.rounds, say))
            result.chat = rows(await _measured(_chats(plan, gateway, peer), plan.rounds, say))
            result.latency = rows(await _measured(_paced(plan, instant, gateway), plan.rounds, say))
        if plan.soak_requests:
            await _soak(plan, gateway, result, say)
    settled = [*result.memory.values()][SETTLED_PORTIONS - 1 :]
    result.goals = goals(result.embeddings, result.chat, result.latency, settled)
    return result


async def _measured(targets: _Targets, rounds: int, say: Callable[[str], None]) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in targets}
    for number in range(rounds):
        for name, target in targets.items():
            say(f"round {number + 1} of {rounds}: {name}")
            process = target.process
            with process.awake() if process is not None and target.sleeps else nullcontext():
                used = process.cpu_seconds if process is not None else 0.0
                measurement = await measure(target.job)
                used = process.cpu_seconds - used if process is not None else 0.0
            samples[name].append(Sample(measurement, used))
    return samples


def _embeddings(plan: Plan, instant: Instant, gateway: Server, peer: PeerProcess | None) -> dict[str, _Target]:
    job = Job("http", gateway.url, [_embedding_post()], plan.clients, plan.seconds, key=gateway.key)
    call = replace(job, kind="grpc", target=gateway.grpc, payloads=[_embed_request()], method=EMBED_METHOD)
    targets = {
        GATEWAY: _Target(job, gateway.process),
        FORWARDED: _Target(call, gateway.process),
        DIRECT: _Target(replace(call, target=instant.grpc, key="")),
    }
    if peer is not None:
        targets[LITELLM] = _Target(replace(job, target=peer.url, key=KEY), peer, sleeps=True)
    return targets


def _chats(plan: Plan, gateway: Server, peer: PeerProcess | None) -> dict[str, _Target]:
    job = Job("http", gateway.url, [_chat_post()], plan.streams, plan.seconds, key=gateway.key)
    targets = {GATEWAY: _Target(job, gateway.process)}
    if peer is not None:
        targets[LITELLM] = _Target(replace(job, target=peer.url, key=KEY), peer, sleeps=True)
    return targets


def _paced(plan: Plan, instant: Instant, gateway: Server) -> dict[str, _Target]:
    targets = _embeddings(plan, instant, gateway, None)
    return {name: replace(it, job=replace(it.job, arrivals=plan.arrivals)) for name, it in targets.items()}


async def _soak(plan: Plan, gateway: Server, result: Result, say: Callable[[str], None]) -> None:
    """Send embeddings, streams and requests to be refused; note the gateway's memory after each tenth."""
    posts = [_embedding_post()] * 17 + [_chat_post()] * 2 + [Post("/v1/embeddings", b'{"model": 1}', status=400)]
    job = Job("http", gateway.url, posts, plan.clients, 0, warmup_seconds=0, key=gateway.key)
    for portion in range(1, PORTIONS + 1):
        say(f"soak, portion {portion} of {PORTIONS}, {result.soak_errors} errors")
        measured = await measure(replace(job, limit=plan.soak_requests // PORTIONS))
        result.soak_errors += measured.errors
        result.soak_first_error = result.soak_first_error or measured.first_error
        result.memory[str(plan.soak_requests // PORTIONS * portion)] = gateway.process.megabytes


def _embedding_post() -> Post:
    """Return what the openai client sends: it asks for base64 unless told otherwise."""
    body = {"model": EMBEDDING, "input": TEXT, "encoding_format": "base64"}
    return Post("/v1/embeddings", json.dumps(body).encode())


def _embed_request() -> bytes:
    inputs = [embedding_pb2.Input(text=TEXT)]
    return embedding_pb2.EmbedRequest(model=EMBEDDING, inputs=inputs).SerializeToString()


def _chat_post() -> Post:
    body = {"model": CHAT, "messages": [{"role": "user", "content": TEXT}], "stream": True}
    return Post("/v1/chat/completions", json.dumps(body).encode(), end=DONE)
