"""KServe over HTTP where it needs a service that behaves as told: decoupled models, faults, limits, merging."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.common.errors import Kind, ServiceError
from services.common.triton import model_config_pb2, service_pb2
from tests.integration.gateway.fake_embedding import TRITON_MODEL, FakeEmbedding
from tests.integration.gateway.fake_vision import FakeVision
from tests.integration.gateway.gateway import Gateway, running

URL = f"/v2/models/{TRITON_MODEL}"
BODY = {"inputs": [{"name": "count", "shape": [1], "datatype": "INT32", "data": [3]}]}


class Decoupled(FakeEmbedding):
    """Answers with as many numbers as the input says, one a response; -1 fails after the first, 99 hangs there."""

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        reply = service_pb2.ModelConfigResponse()
        reply.config.name = request.name
        reply.config.input.add(name="count", data_type=model_config_pb2.TYPE_INT32, dims=[1])
        reply.config.model_transaction_policy.decoupled = True
        return reply

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        async for request in request_iterator:
            await self._note(request, context)
            (count,) = np.frombuffer(request.raw_input_contents[0], "<i4")
            for number in range(1 if count == 99 else abs(count)):
                reply = service_pb2.ModelStreamInferResponse()
                reply.infer_response.model_name = request.model_name
                reply.infer_response.outputs.add(name="number", datatype="INT32", shape=[1])
                reply.infer_response.raw_output_contents.append(np.int32(number).tobytes())
                yield reply
            if count < 0:
                raise ServiceError(Kind.INTERNAL, "the model failed: it was told to")
            if count == 99:
                await self.hang(request)
            yield service_pb2.ModelStreamInferResponse()  # Triton's empty final response


@pytest.fixture
async def service() -> AsyncIterator[Decoupled]:
    async with Decoupled().running() as fake:
        yield fake


@pytest.fixture
async def front(service: Decoupled) -> AsyncIterator[Gateway]:
    async with running(service.address) as gateway:
        yield gateway


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


async def test_generate_stream_sends_every_answer(front: Gateway, service: Decoupled) -> None:
    answer = await front.http.post(f"{URL}/generate_stream", json={"count": 3, "temperature": 0.5})
    assert [event["number"] for event in events(answer.text)] == [0, 1, 2]
    assert service.requests[-1].parameters["temperature"].double_param == 0.5
    assert service.metadata[0]["triton_grpc_error"] == "true"


async def test_generate_takes_exactly_one_answer(front: Gateway) -> None:
    assert (await front.http.post(f"{URL}/generate", json={"count": 1})).json()["number"] == 0
    for count in (0, 2):
        refused = await front.http.post(f"{URL}/generate", json={"count": count})
        assert (refused.status_code, "generate_stream" in refused.json()["error"]) == (400, True)


async def test_an_error_after_the_first_answer_is_an_event(front: Gateway) -> None:
    answer = await front.http.post(f"{URL}/generate_stream", json={"count": -1})
    assert answer.status_code == 200
    assert events(answer.text)[-1] == {"error": "the model failed: it was told to"}


async def test_an_error_before_the_first_answer_is_a_status(front: Gateway, service: Decoupled) -> None:
    service.fail(ServiceError(Kind.OVERLOADED, "queue full", retry_after=3))
    for route in ("infer", "generate", "generate_stream"):
        answer = await front.http.post(f"{URL}/{route}", json=BODY if route == "infer" else {"count": 1})
        assert (answer.status_code, answer.json()) == (429, {"error": "queue full"})
        assert answer.headers["retry-after"] == "3"


async def test_a_client_that_leaves_a_stream_cancels_it(front: Gateway, service: Decoupled) -> None:
    async with front.http.stream("POST", f"{URL}/generate_stream", json={"count": 99}) as answer:
        await anext(answer.aiter_lines())
    await asyncio.wait_for(service.cancelled.wait(), 10)


async def test_a_deadline_is_a_504(front: Gateway, service: Decoupled) -> None:
    service.behave = service.hang
    answer = await front.http.post(f"{URL}/infer", json=BODY, headers={"x-flotilla-timeout-ms": "50"})
    assert (answer.status_code, set(answer.json())) == (504, {"error"})


async def test_an_unpacked_body_is_limited() -> None:
    async with FakeEmbedding().running() as fake, running(fake.address, body_limit_bytes=4096) as gateway:
        content = gzip.compress(json.dumps({**BODY, "id": "x" * 10_000}).encode())
        assert len(content) < 4096
        answer = await gateway.http.post(f"{URL}/infer", content=content, headers={"content-encoding": "gzip"})
        assert (answer.status_code, set(answer.json())) == (413, {"error"})
        unknown = await gateway.http.post(f"{URL}/infer", content=content, headers={"content-encoding": "br"})
        assert unknown.status_code == 415


async def test_a_message_over_the_limit_of_grpc_is_a_413() -> None:
    async with FakeEmbedding().running() as fake, running(fake.address, max_message_bytes=2048) as gateway:
        body = {"inputs": [{"name": "a", "shape": [1000], "datatype": "FP64", "data": [0] * 1000}]}
        answer = await gateway.http.post(f"{URL}/infer", json=body)
        assert (answer.status_code, set(answer.json())) == (413, {"error"})


async def test_a_service_that_is_down_is_a_503_with_a_time_to_come_back(front: Gateway, service: Decoupled) -> None:
    assert (await front.http.get(f"{URL}/ready")).status_code == 200
    await service.serve_nothing()
    await front.until_serving(False)
    assert (await front.http.get(f"{URL}/ready")).status_code == 503
    answer = await front.http.post(f"{URL}/infer", json=BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_the_index_is_merged_over_the_services(service: Decoupled) -> None:
    async with FakeVision().running() as vision, running(service.address, vision_addresses=vision.address) as gateway:
        rows = (await gateway.http.post("/v2/repository/index", json={"ready": True})).json()
    assert TRITON_MODEL in {row["name"] for row in rows}
    assert all(set(row) == {"name", "version", "state", "reason"} for row in rows)
