"""The services without work that the gateway is measured in front of: real answers, in the forms of real services."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from grpc_health.v1 import health_pb2_grpc

from services.common.health import Health
from services.common.server import grpc_server
from tests.integration.gateway.gateway import Gateway, running
from tools.benchmark.instant import CHAT, DIMENSIONS, EMBEDDING, MESSAGE_BYTES, InstantCalls, deltas


@asynccontextmanager
async def instant_calls() -> AsyncIterator[str]:
    """Run the services while the block runs; yield their address."""
    health, server = Health.of([], []), grpc_server(MESSAGE_BYTES, [])
    server.add_generic_rpc_handlers((InstantCalls(),))
    health_pb2_grpc.add_HealthServicer_to_server(health.grpc, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await health.open()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await health.close()
        await server.stop(None)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with instant_calls() as address, running(address, llm_addresses=address) as started:
        yield started


async def test_an_embedding(gateway: Gateway) -> None:
    response = await gateway.embed(model=EMBEDDING)
    assert response.status_code == 200
    assert len(response.json()["data"][0]["embedding"]) == DIMENSIONS


async def test_a_stream_of_chat(gateway: Gateway) -> None:
    body = {"model": CHAT, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    response = await gateway.http.post("/v1/chat/completions", json=body)
    *events, done, nothing = response.text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    assert [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")] == deltas()
    assert choices[-1]["finish_reason"] == "stop"


async def test_the_models(gateway: Gateway) -> None:
    models = (await gateway.http.get("/v1/models")).json()["data"]
    assert {model["id"] for model in models} == {EMBEDDING, CHAT}
