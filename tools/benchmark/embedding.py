"""The embedding benchmark: engine alone, Triton directly, the service by gRPC, the whole stack over HTTP, peers."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from flotilla.embedding.v1 import embedding_pb2 as pb

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore
from services.common.triton import service_pb2
from services.embedding.tokenizer import TextTokenizer, Truncate
from tools.benchmark.corpus import mixed_texts
from tools.benchmark.generator import Job, Measurement, measure
from tools.benchmark.infinity import infinity
from tools.cli.console import Problem
from tools.fleet.private import PrivateFleet, private_fleet

ENGINE, TRITON, SERVICE, STACK, INFINITY = (
    "ONNX Runtime in process",
    "Triton directly (gRPC)",
    "service (gRPC)",
    "whole stack (HTTP)",
    "infinity-emb (HTTP)",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    clients: tuple[int, ...]
    rounds: int
    seconds: float
    peer: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One target at one number of clients, over all rounds. Times in milliseconds, CPU in cores."""

    target: str
    clients: int
    rate: float
    p50: float
    p99: float
    generator_cores: float
    errors: int
    first_error: str


async def run(
    plan: Plan, state_dir: Path, manifest: Manifest, store: ModelStore, say: Callable[[str], None]
) -> tuple[list[Row], dict[str, Any]]:
    """Measure everything in one run, the targets in turn in every round; return the rows and facts of the run."""
    model = manifest.for_service("embedding")[0]
    texts = mixed_texts(2000)
    async with AsyncExitStack() as stack:
        say("starting a fleet of its own")
        fleet = await stack.enter_async_context(private_fleet(state_dir / "fleet"))
        jobs = _jobs(fleet, model, store, texts)
        if plan.peer == "infinity":
            url = await stack.enter_async_context(infinity(model, manifest.folder, state_dir / "infinity", say))
            jobs[INFINITY] = Job("http", f"{url}/embeddings", _http_payloads(model.id, texts), 1, 1)
        elif plan.peer:
            raise Problem(f"there is no peer {plan.peer}", "choose: infinity")
        rows = [row for clients in plan.clients for row in await _measure_all(jobs, clients, plan, say)]
    tokens = [len(ids) for ids in _token_ids(model, store, texts)]
    return rows, {"texts": len(texts), "mean_tokens": round(statistics.mean(tokens), 1), "max_tokens": max(tokens)}


async def _measure_all(jobs: Mapping[str, Job], clients: int, plan: Plan, say: Callable[[str], None]) -> list[Row]:
    results: dict[str, list[Measurement]] = {target: [] for target in jobs}
    for number in range(plan.rounds):
        for target, job in jobs.items():
            say(f"{clients} clients, round {number + 1} of {plan.rounds}: {target}")
            results[target].append(await measure(replace(job, clients=clients, seconds=plan.seconds)))
    return [_row(target, clients, measured) for target, measured in results.items()]


def _row(target: str, clients: int, measured: Sequence[Measurement]) -> Row:
    latencies = sorted(latency for one in measured for latency in one.latencies) or [float("nan")]
    return Row(
        target,
        clients,
        rate=statistics.median(one.rate for one in measured),
        p50=statistics.median(latencies) * 1e3,
        p99=latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1e3,
        generator_cores=statistics.median(one.generator_cores for one in measured),
        errors=sum(one.errors for one in measured),
        first_error=next((one.first_error for one in measured if one.first_error), ""),
    )


def _jobs(fleet: PrivateFleet, model: Model, store: ModelStore, texts: Sequence[str]) -> dict[str, Job]:
    rows = [_tensors(ids) for ids in _token_ids(model, store, texts)]
    service = fleet.process("embedding")
    embed = [
        pb.EmbedRequest(model=model.id, inputs=[pb.Input(text=text)], truncate=pb.TRUNCATE_END).SerializeToString()
        for text in texts
    ]
    return {
        ENGINE: Job("onnxruntime", str(store.artifact(model.id, "model.onnx")), rows, 1, 1),
        TRITON: Job(
            "grpc",
            _triton_address(service.pid),
            [_infer_request(model.triton_name, row) for row in rows],
            1,
            1,
            method="/inference.GRPCInferenceService/ModelInfer",
        ),
        SERVICE: Job(
            "grpc",
            f"127.0.0.1:{service.grpc_port}",
            embed,
            1,
            1,
            method="/flotilla.embedding.v1.EmbeddingService/Embed",
        ),
        STACK: Job("http", f"{fleet.url}/v1/embeddings", _http_payloads(model.id, texts), 1, 1),
    }


def _http_payloads(model: str, texts: Sequence[str]) -> list[bytes]:
    """Return what the openai client sends: it asks for base64 unless told otherwise."""
    return [json.dumps({"model": model, "input": text, "encoding_format": "base64"}).encode() for text in texts]


def _token_ids(model: Model, store: ModelStore, texts: Sequence[str]) -> list[list[int]]:
    assert model.embedding is not None  # noqa: S101
    facts = model.embedding
    tokenizer = TextTokenizer(store.artifact(model.id, "tokenizer.json"), facts.max_tokens, facts.vocabulary_size)
    return [tokenizer.encode("input", text, Truncate.END) for text in texts]


def _tensors(ids: Sequence[int]) -> dict[str, Any]:
    row = np.array([ids], dtype=np.int64)
    return {"input_ids": row, "attention_mask": np.ones_like(row)}


def _infer_request(name: str, tensors: Mapping[str, Any]) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=name)
    for key, array in tensors.items():
        request.inputs.add(name=key, datatype="INT64", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    serialised: bytes = request.SerializeToString()
    return serialised


def _triton_address(service_pid: int | None) -> str:
    """Return the loopback address of the Triton a service has started."""
    for child in psutil.Process(service_pid).children(recursive=True):
        for argument in child.cmdline():
            if argument.startswith("--grpc-port="):
                return f"127.0.0.1:{argument.partition('=')[2]}"
    raise Problem("the embedding service runs no Triton of its own", "unset FLOTILLA_EMBEDDING_TRITON_URL")
