"""ModelStreamInfer over several services, its ends, and the deadline of calls that bring none."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1.embedding_pb2_grpc import EmbeddingServiceStub

from services.common.errors import Kind, ServiceError
from services.common.triton import service_pb2, service_pb2_grpc
from tests.integration.gateway.fake_embedding import MODEL, TRITON_MODEL, FakeEmbedding
from tests.integration.gateway.fake_vision import CLASSIFIER, FakeVision
from tests.integration.gateway.gateway import Gateway, running

PICTURES = CLASSIFIER.replace("-", "_")


@pytest.fixture
async def both(embedding: FakeEmbedding, vision: FakeVision) -> AsyncIterator[Gateway]:
    async with running(embedding.address, vision_addresses=vision.address) as gateway:
        yield gateway


def stub(gateway: Gateway) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(gateway.grpc)


async def test_each_request_goes_to_the_service_that_has_its_model(both: Gateway) -> None:
    call = stub(both).ModelStreamInfer()
    for number, model in enumerate((TRITON_MODEL, PICTURES, TRITON_MODEL, "nope", PICTURES)):
        await call.write(service_pb2.ModelInferRequest(model_name=model, id=str(number)))
        answer = await call.read()  # while the stream is open
        assert answer.infer_response.id == str(number)
        if model == "nope":
            assert answer.error_message.startswith("model 'nope' is not loaded; loaded: ")
        else:
            assert answer.infer_response.model_name == model
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_service_that_fails_ends_the_stream_with_its_status(both: Gateway, embedding: FakeEmbedding) -> None:
    embedding.fail(ServiceError(Kind.OVERLOADED, "queue full"))
    call = stub(both).ModelStreamInfer()
    await call.write(service_pb2.ModelInferRequest(model_name=PICTURES, id="1"))
    assert (await call.read()).infer_response.id == "1"
    await call.write(service_pb2.ModelInferRequest(model_name=TRITON_MODEL, id="2"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_cancel_reaches_every_service(both: Gateway, embedding: FakeEmbedding) -> None:
    embedding.behave = embedding.hang
    call = stub(both).ModelStreamInfer()
    await call.write(service_pb2.ModelInferRequest(model_name=TRITON_MODEL))
    await embedding.entered.wait()
    call.cancel()
    await asyncio.wait_for(embedding.cancelled.wait(), 10)


async def test_an_empty_stream_and_garbage(both: Gateway) -> None:
    call = stub(both).ModelStreamInfer()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    for garbage in (b"\xff\xff", b"\x0a\xff", b"\x0a\x04no"):
        raw = both.grpc.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([garbage]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_without_a_deadline_gets_the_gateways(embedding: FakeEmbedding) -> None:
    async with running(embedding.address, request_timeout_seconds=7) as gateway:
        request = pb.EmbedRequest(model=MODEL, inputs=[pb.Input(text="a")], output_type=pb.OUTPUT_TYPE_FLOAT)
        await EmbeddingServiceStub(gateway.grpc).Embed(request)
        remaining = embedding.remaining[-1]
        assert remaining is not None
        assert 0 < remaining < 8
        stream = stub(gateway).ModelStreamInfer()
        await stream.write(service_pb2.ModelInferRequest(model_name=TRITON_MODEL))
        await stream.read()
        assert embedding.remaining[-1] is None  # the caller may go on as long as it likes
        stream.cancel()
