# ruff: noqa: N802
"""Scale to zero: calls are held for a service that nobody serves yet, for as long as they may wait."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest

from services.common.errors import ServiceError
from services.common.triton import service_pb2, service_pb2_grpc
from services.gateway import backends
from services.gateway.directory import REPOSITORY_INDEX
from services.gateway.resolution import Endpoint, resolve
from tests.integration.gateway.fake_embedding import MODEL, TRITON_MODEL, FakeEmbedding
from tests.integration.gateway.fake_llm import FakeLlm
from tests.integration.gateway.fake_vision import FakeVision
from tests.integration.gateway.gateway import Gateway, running
from tests.waiting import turns, until

DEADLINE = {"x-flotilla-timeout-ms": "300"}
INFER = f"/v2/models/{TRITON_MODEL}/infer"
BODY = {"inputs": [{"name": "input_ids", "shape": [1, 1], "datatype": "INT64", "data": [1]}]}


def held(gateway: Gateway, service: str = "embedding") -> float:
    name = f'flotilla_gateway_held{{service="{service}"}} '
    return float(gateway.telemetry.prometheus_text().partition(name)[2].partition("\n")[0])


async def port_of_nobody() -> int:
    async with FakeEmbedding().running() as gone:
        return int(gone.address.rpartition(":")[2])


@asynccontextmanager
async def without_service(**settings: float) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway whose embedding service was never there, and the port where it will be."""
    port = await port_of_nobody()
    async with running(f"127.0.0.1:{port}", **{"embedding_hold_seconds": 60, **settings}) as gateway:
        yield gateway, port


@dataclass
class Asked(FakeEmbedding):
    """Remembers that it was asked for what it has."""

    asked: bool = False

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        self.asked = True
        return await super().RepositoryIndex(request, context)


@asynccontextmanager
async def asleep() -> AsyncIterator[Gateway]:
    """A gateway whose embedding service has served and was scaled to zero."""
    fake = Asked()
    async with fake.running(), running(fake.address, embedding_hold_seconds=60) as gateway:
        await until(lambda: fake.asked, "the gateway to ask of itself what there is")
        await fake.serve_nothing()
        await gateway.until_serving(False)
        yield gateway


async def test_the_start_of_the_gateway_holds_nothing() -> None:
    async with without_service() as (gateway, _):
        assert held(gateway) == 0


async def test_what_the_gateway_asks_of_itself_is_not_held() -> None:
    """Else a service that comes and goes would be started again by the question what it has."""
    async with without_service() as (gateway, _):
        question = asyncio.create_task(
            gateway.fleet.embedding.backend.ask(REPOSITORY_INDEX, service_pb2.RepositoryIndexRequest())
        )
        await turns()
        assert question.done() and held(gateway) == 0
        with pytest.raises(ServiceError, match="service 'embedding' is not available"):
            await question


async def test_a_request_waits_for_a_service_that_was_never_there() -> None:
    async with without_service() as (gateway, port):
        call = asyncio.create_task(gateway.embed())
        await until(lambda: held(gateway) == 1, "the call to be held")
        async with FakeEmbedding().running(port):
            assert (await call).status_code == 200
        assert held(gateway) == 0


async def test_a_request_waits_for_a_name_that_nobody_knows_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A headless Service without pods: its name is unknown until there is one."""
    known: list[str] = []

    async def resolved(_: object) -> frozenset[Endpoint]:
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await resolve(known)

    monkeypatch.setattr(backends, "resolve", resolved)
    async with (
        FakeEmbedding().running() as fake,
        running("llm:50061", embedding_hold_seconds=60, resolve_seconds=0.05) as gateway,
    ):
        call = asyncio.create_task(gateway.embed())
        await until(lambda: held(gateway) == 1, "the call to be held")
        known.append(fake.address)
        assert (await call).status_code == 200


async def test_at_the_deadline_of_the_request_it_is_503_with_a_time_to_come_back() -> None:
    async with without_service() as (gateway, _):
        began = time.monotonic()
        response = await gateway.http.post("/v1/embeddings", json={"model": MODEL, "input": "a"}, headers=DEADLINE)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert time.monotonic() - began >= 0.3
        assert held(gateway) == 0


async def test_at_the_end_of_the_hold_it_is_503_with_a_time_to_come_back() -> None:
    async with without_service(embedding_hold_seconds=1.5) as (gateway, _):
        response = await gateway.embed()
        assert response.status_code == 503
        assert "retry-after" in response.headers


async def test_a_client_that_leaves_is_held_no_longer() -> None:
    async with without_service() as (gateway, _):
        call = asyncio.create_task(gateway.embed())
        await until(lambda: held(gateway) == 1, "the call to be held")
        call.cancel()
        await until(lambda: held(gateway) == 0, "the call to be let go")


async def test_a_stream_of_chat_is_held_too() -> None:
    async with FakeLlm().running() as llm, running("", llm_addresses=llm.address, llm_hold_seconds=60) as gateway:
        await llm.health.down("engine", "not yet")
        await until(lambda: not gateway.fleet.llm.backend.serving, "the service to be seen down")
        body = {"model": "fake-chat", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        call = asyncio.create_task(gateway.http.post("/v1/chat/completions", json=body))
        await until(lambda: held(gateway, "llm") == 1, "the call to be held")
        await llm.health.up("engine")
        response = await call
        assert response.status_code == 200
        assert response.text.endswith("data: [DONE]\n\n")


async def test_its_models_stay_listed_and_looking_at_them_starts_nothing() -> None:
    async with asleep() as gateway:
        listed = (await gateway.http.get("/v1/models")).json()["data"]
        assert [row["id"] for row in listed] == [MODEL]
        assert (await gateway.http.get(f"/v1/models/{MODEL}")).status_code == 200
        assert (await gateway.http.get(f"/v2/models/{TRITON_MODEL}/ready")).status_code == 503
        stub = service_pb2_grpc.GRPCInferenceServiceStub(gateway.grpc)
        assert not (await stub.ModelReady(service_pb2.ModelReadyRequest(name=TRITON_MODEL))).ready
        assert held(gateway) == 0


async def test_readiness_of_a_model_never_heard_of_is_told_at_once() -> None:
    async with without_service() as (gateway, _):
        assert (await gateway.http.get("/v2/models/any/ready")).status_code == 503


@pytest.mark.parametrize("transport", ["http", "grpc"])
async def test_kserve_by_name_waits_for_a_service_that_was_never_there(transport: str) -> None:
    async with without_service() as (gateway, port):
        if transport == "http":
            call = asyncio.ensure_future(gateway.http.post(INFER, json=BODY))
        else:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(gateway.grpc)
            call = asyncio.ensure_future(stub.ModelInfer(service_pb2.ModelInferRequest(model_name=TRITON_MODEL)))
        await until(lambda: held(gateway) == 1, "the call to be held")
        async with FakeEmbedding().running(port):
            reply = await call
        assert not isinstance(reply, httpx.Response) or reply.status_code == 200


async def test_kserve_by_name_ends_at_its_deadline() -> None:
    async with without_service() as (gateway, _):
        response = await gateway.http.post(INFER, json=BODY, headers=DEADLINE)
        assert response.status_code == 503
        assert held(gateway) == 0


async def test_a_name_that_no_service_has_waits_only_for_those_never_heard() -> None:
    async with FakeLlm().running() as llm, without_service(llm_addresses=llm.address) as (gateway, port):
        call = asyncio.create_task(gateway.http.get("/v2/models/nope"))
        await until(lambda: held(gateway) == 1, "the call to be held")
        async with FakeEmbedding().running(port):
            assert (await call).status_code == 404
            assert (await gateway.http.get("/v2/models/nope")).status_code == 404


async def test_inference_on_pictures_waits_for_a_service_that_was_never_there() -> None:
    picture = "data:image/png;base64,iVBORw0KGgo="
    body = {"model": "no-such-model", "input": [{"type": "image_url", "url": picture}]}
    async with FakeVision().running() as vision:
        settings = {"vision_addresses": vision.address, "vision_hold_seconds": 60}
        await vision.health.down("engine", "not yet")
        async with running("", **settings) as gateway:
            call = asyncio.create_task(gateway.http.post("/v1/infer", json=body))
            await until(lambda: held(gateway, "vision") == 1, "the call to be held")
            await vision.health.up("engine")
            assert (await call).status_code == 404


async def test_a_grpc_call_is_held_until_its_deadline() -> None:
    async with without_service() as (gateway, _):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(gateway.grpc)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=TRITON_MODEL), timeout=0.5)
        assert refused.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        await until(lambda: held(gateway) == 0, "the call to be let go")
