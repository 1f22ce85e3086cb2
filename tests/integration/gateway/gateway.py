"""A gateway on free ports of this event loop, with what the tests look at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from opentelemetry.trace import Tracer

from services.common.interceptors import Boundary
from services.common.server import show_readiness
from services.common.telemetry import Telemetry
from services.gateway.access.access import access
from services.gateway.app import create_app
from services.gateway.directory import Directory
from services.gateway.fleet import Fleet
from services.gateway.grpc_server import create_grpc_server, log_call
from services.gateway.health import CONNECT, GatewayHealth
from services.gateway.kserve import KServe
from services.gateway.listeners import grpc_listener, http_listener
from services.gateway.remote_images import RemoteImages
from services.gateway.settings import GatewaySettings
from services.gateway.tls import tls
from tests.integration.gateway.fake_embedding import FakeEmbedding, telemetry


@dataclass
class Gateway:
    """A running gateway."""

    http: httpx.AsyncClient
    http_port: int
    grpc_port: int
    grpc: grpc.aio.Channel
    fleet: Fleet
    health: GatewayHealth
    telemetry: Telemetry

    async def embed(self, **body: Any) -> httpx.Response:
        """Send POST /v1/embeddings with a small default body."""
        return await self.http.post("/v1/embeddings", json={"model": "fake-model", "input": "hello", **body})

    async def until_serving(self, serving: bool = True) -> None:
        """Wait until the embedding service is seen to serve, or not to."""
        changes, backend = self.fleet.changes, self.fleet.embedding.backend
        version = changes.version
        while backend.serving != serving:
            version = await changes.after(version)

    async def until_replicas(self, count: int) -> None:
        """Wait until so many replicas of the embedding service are seen to serve."""
        changes, backend = self.fleet.changes, self.fleet.embedding.backend
        version = changes.version
        while len(backend.generation) != count:
            version = await changes.after(version)


@asynccontextmanager
async def running(
    *addresses: str, tracer: Tracer | None = None, remote_images: RemoteImages | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    """Run a gateway in front of `addresses` of the embedding service while the block runs."""
    chosen = GatewaySettings(
        **{
            "http_port": 0,
            "grpc_port": 0,
            "embedding_addresses": ",".join(addresses),
            "vision_addresses": "",
            "asr_addresses": "",
            "llm_addresses": "",
            **settings,
        }
    )
    instruments = telemetry(tracer)
    fleet = Fleet.of(chosen, instruments)
    health, directory = GatewayHealth.over(fleet), Directory(fleet)
    show_readiness(health, instruments)
    with health.phase(CONNECT):
        await fleet.start()
    background = [asyncio.create_task(health.follow()), asyncio.create_task(directory.follow())]
    guard = access(chosen, directory, instruments)
    if guard is not None:
        health.keys = guard.keys
        background.append(asyncio.create_task(guard.keys.follow()))
    app = create_app(chosen, fleet, directory, health, instruments, guard, remote_images)
    encryption = tls(chosen)
    if encryption is not None:
        background.append(asyncio.create_task(encryption.follow()))
    http = http_listener(app, chosen, encryption)
    boundary = Boundary(instruments, lambda: False, log_call)
    server = create_grpc_server(
        fleet, KServe(health, directory), health.grpc, boundary, chosen.max_message_bytes, guard
    )
    listener = grpc_listener(server, boundary, chosen, encryption)
    await http.start()
    await listener.start()
    await health.open()
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{http.port}", trust_env=False, timeout=30) as client,
            grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel,
        ):
            yield Gateway(client, http.port, listener.port, channel, fleet, health, instruments)
    finally:
        for task in background:
            task.cancel()
        await health.close()
        await asyncio.gather(http.stop(1), listener.stop(0))
        await fleet.close()
        instruments.close()


@asynccontextmanager
async def with_two_replicas(**settings: Any) -> AsyncIterator[tuple[Gateway, FakeEmbedding, FakeEmbedding]]:
    """Run a gateway in front of two replicas of the embedding service, both seen to serve, while the block runs."""
    async with (
        FakeEmbedding().running() as one,
        FakeEmbedding().running() as two,
        running(one.address, two.address, **settings) as gateway,
    ):
        await gateway.until_replicas(2)
        yield gateway, one, two
