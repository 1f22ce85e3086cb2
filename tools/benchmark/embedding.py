"""The embedding benchmark: engine alone, Triton directly, the service by gRPC, the whole stack over HTTP, peers."""

import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flotilla.embedding.v1 import embedding_pb2 as pb

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore
from services.embedding.tokenizer import TextTokenizer, Truncate
from tools.benchmark.corpus import mixed_texts
from tools.benchmark.generator import Job, Post
from tools.benchmark.infinity import infinity
from tools.benchmark.rounds import Row, measure_all, with_clients
from tools.benchmark.triton import INFER, infer_request, triton_address
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


async def run(
    plan: Plan, state_dir: Path, manifest: Manifest, store: ModelStore, say: Callable[[str], None]
) -> tuple[list[Row], dict[str, Any]]:
    """Measure everything in one run, the targets in turn in every round; return the rows and facts of the run."""
    model = manifest.for_service("embedding")[0]
    texts = mixed_texts(2000)
    async with AsyncExitStack() as stack:
        say("starting a fleet of its own")
        fleet = await stack.enter_async_context(private_fleet(state_dir / "fleet", services=["embedding"]))
        jobs = _jobs(fleet, model, store, texts)
        if plan.peer == "infinity":
            url = await stack.enter_async_context(infinity(model, manifest.folder, state_dir / "infinity", say))
            jobs[INFINITY] = Job("http", url, _posts("/embeddings", model.id, texts), 1, 1)
        elif plan.peer:
            raise Problem(f"there is no peer {plan.peer}", "choose: infinity")
        rows: list[Row] = []
        for clients in plan.clients:
            rows += await measure_all(with_clients(jobs, clients, plan.seconds), TRITON, plan.rounds, say)
    tokens = [len(ids) for ids in _token_ids(model, store, texts)]
    return rows, {"texts": len(texts), "mean_tokens": round(statistics.mean(tokens), 1), "max_tokens": max(tokens)}


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
            triton_address(service.pid),
            [infer_request(model.triton_name, row) for row in rows],
            1,
            1,
            method=INFER,
        ),
        SERVICE: Job(
            "grpc",
            f"127.0.0.1:{service.grpc_port}",
            embed,
            1,
            1,
            method="/flotilla.embedding.v1.EmbeddingService/Embed",
        ),
        STACK: Job("http", fleet.url, _posts("/v1/embeddings", model.id, texts), 1, 1),
    }


def _posts(path: str, model: str, texts: Sequence[str]) -> list[Post]:
    """Return what the openai client sends: it asks for base64 unless told otherwise."""
    bodies = ({"model": model, "input": text, "encoding_format": "base64"} for text in texts)
    return [Post(path, json.dumps(body).encode()) for body in bodies]


def _token_ids(model: Model, store: ModelStore, texts: Sequence[str]) -> list[list[int]]:
    assert model.embedding is not None  # noqa: S101
    facts = model.embedding
    tokenizer = TextTokenizer(store.artifact(model.id, "tokenizer.json"), facts.max_tokens, facts.vocabulary_size)
    return [tokenizer.encode("input", text, Truncate.END) for text in texts]


def _tensors(ids: Sequence[int]) -> dict[str, Any]:
    row = np.array([ids], dtype=np.int64)
    return {"input_ids": row, "attention_mask": np.ones_like(row)}
