"""The gRPC port: raw messages by service name, KServe by model name, health, reflection."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1.embedding_pb2_grpc import EmbeddingServiceStub
from flotilla.vision.v1 import vision_pb2
from flotilla.vision.v1.vision_pb2_grpc import VisionServiceStub
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from services.common.errors import Kind, ServiceError, from_rpc_error
from services.common.triton import service_pb2, service_pb2_grpc
from tests.integration.gateway.fake_embedding import MODEL, TRITON_MODEL, FakeEmbedding, vector
from tests.integration.gateway.fake_vision import CLASSIFIER, FakeVision
from tests.integration.gateway.gateway import Gateway, with_two_replicas

HELLO = pb.EmbedRequest(model=MODEL, inputs=[pb.Input(text="hello")], output_type=pb.OUTPUT_TYPE_FLOAT)
NOT_STARTED = ServiceError(Kind.NOT_STARTED, "this replica is shutting down; the call was not started")


def kserve(gateway: Gateway) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(gateway.grpc)


async def test_a_typed_call_goes_through(gateway: Gateway) -> None:
    reply = await EmbeddingServiceStub(gateway.grpc).Embed(HELLO)
    assert reply.embeddings[0].data == vector("hello").tobytes()


async def test_a_call_is_logged_without_its_content(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "services.gateway.grpc_server")
    with pytest.raises(grpc.aio.AioRpcError):
        await EmbeddingServiceStub(gateway.grpc).Embed(pb.EmbedRequest(model="none", inputs=HELLO.inputs))
    [record] = [record for record in caplog.records if record.name == "services.gateway.grpc_server"]
    assert record.getMessage().startswith("flotilla.embedding.v1.EmbeddingService/Embed NOT_FOUND ")
    assert record.client.startswith("ipv4:127.0.0.1") and "hello" not in str(vars(record))  # type: ignore[attr-defined]


async def test_metadata_deadline_and_request_id_go_through(gateway: Gateway, embedding: FakeEmbedding) -> None:
    metadata = (
        ("x-request-id", "my-id"),
        ("x-own", "1"),
        ("x-own-bin", b"\x00\xff"),
        ("x-flotilla-principal", "root"),
        ("x-flotilla-priority", "-9"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    )
    call = EmbeddingServiceStub(gateway.grpc).Embed(HELLO, metadata=metadata, timeout=7)
    await call
    seen = embedding.metadata[-1]
    assert (seen["x-request-id"], seen["x-own"], seen["x-own-bin"]) == ("my-id", "1", b"\x00\xff")
    assert "0af7651916cd43dd8448eb211c80319c" in seen["traceparent"]
    assert not {"x-flotilla-principal", "x-flotilla-priority"} & seen.keys()
    remaining = embedding.remaining[-1]
    assert remaining is not None
    assert remaining < 8
    assert ("x-request-id", "my-id") in [(key, value) for key, value in await call.trailing_metadata()]


async def test_initial_and_trailing_metadata_come_back(gateway: Gateway) -> None:
    call = kserve(gateway).ModelInfer(service_pb2.ModelInferRequest(model_name=TRITON_MODEL, id="7"))
    assert ("x-initial", "yes") in list(await call.initial_metadata())
    assert (await call).id == "7"
    trailing = list(await call.trailing_metadata())
    assert ("x-from-service", "trailer") in trailing
    assert ("x-bin-bin", b"\x00\xff") in trailing


async def test_failures_come_back_unchanged(gateway: Gateway, embedding: FakeEmbedding) -> None:
    given = ServiceError(Kind.OVERLOADED, "queue full", field="inputs[3]", code="queue_full", retry_after=1.5)
    embedding.fail(given)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await EmbeddingServiceStub(gateway.grpc).Embed(HELLO)
    error = from_rpc_error(caught.value)
    assert (error.kind, error.message, error.field, error.code, error.retry_after) == (
        given.kind,
        given.message,
        given.field,
        given.code,
        given.retry_after,
    )
    status = rpc_status.from_call(caught.value)
    assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)


async def test_bytes_that_are_no_message_are_refused_by_the_service(gateway: Gateway) -> None:
    garbage = gateway.grpc.unary_unary("/flotilla.embedding.v1.EmbeddingService/Embed")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await garbage(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await EmbeddingServiceStub(gateway.grpc).Embed(HELLO)


async def test_a_cancel_reaches_the_service(gateway: Gateway, embedding: FakeEmbedding) -> None:
    embedding.behave = embedding.hang
    call = EmbeddingServiceStub(gateway.grpc).Embed(HELLO)
    sending = asyncio.ensure_future(call)
    await embedding.entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await asyncio.wait_for(embedding.cancelled.wait(), 10)


async def test_a_missed_deadline_ends_the_call(gateway: Gateway, embedding: FakeEmbedding) -> None:
    embedding.behave = embedding.hang
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await EmbeddingServiceStub(gateway.grpc).Embed(HELLO, timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(embedding.cancelled.wait(), 10)


async def test_a_unary_call_that_was_not_started_is_made_again_elsewhere() -> None:
    async with with_two_replicas() as (gateway, one, _two):
        one.fail(NOT_STARTED)
        for _ in range(4):
            await EmbeddingServiceStub(gateway.grpc).Embed(HELLO)
        assert len(one.requests) == 1


async def test_a_stream_is_never_made_again() -> None:
    async with with_two_replicas() as (gateway, one, two):
        one.fail(NOT_STARTED)
        two.fail(NOT_STARTED)
        call = kserve(gateway).ModelStreamInfer()
        await call.write(service_pb2.ModelInferRequest(model_name=TRITON_MODEL))
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(aiter(call))
        assert len(one.requests) + len(two.requests) == 1


async def test_both_directions_of_a_stream_flow_at_the_same_time(gateway: Gateway) -> None:
    asked: asyncio.Queue[str | None] = asyncio.Queue()

    async def requests() -> AsyncIterator[Any]:
        while (number := await asked.get()) is not None:
            yield service_pb2.ModelInferRequest(model_name=TRITON_MODEL, id=number)

    answers = aiter(kserve(gateway).ModelStreamInfer(requests()))
    for number in ("1", "2", "3"):
        await asked.put(number)
        assert (await anext(answers)).infer_response.id == number
    await asked.put(None)
    with pytest.raises(StopAsyncIteration):
        await anext(answers)


async def test_large_messages_pass(gateway: Gateway) -> None:
    texts = ["x" * 1_000_000] * 20
    reply = await EmbeddingServiceStub(gateway.grpc).Embed(
        pb.EmbedRequest(inputs=[pb.Input(text=text) for text in texts], output_type=pb.OUTPUT_TYPE_FLOAT)
    )
    assert len(reply.embeddings) == 20


async def test_an_unknown_method_says_so(gateway: Gateway) -> None:
    for path in ("/some.Service/Call", "/inference.GRPCInferenceService/RepositoryModelLoad"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.grpc.unary_unary(path)(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert path in (caught.value.details() or "")


async def test_kserve_is_routed_by_model_name(gateway: Gateway, embedding: FakeEmbedding) -> None:
    assert (await kserve(gateway).ModelReady(service_pb2.ModelReadyRequest(name=TRITON_MODEL))).ready
    assert embedding.requests[-1].name == TRITON_MODEL


@pytest.mark.parametrize(
    "request_type", ["ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"]
)
async def test_an_unknown_kserve_model_lists_what_is_loaded(gateway: Gateway, request_type: str) -> None:
    message = getattr(service_pb2, f"{request_type}Request")()
    setattr(message, "model_name" if request_type == "ModelInfer" else "name", "nope")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(kserve(gateway), request_type)(message)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert f"loaded: {TRITON_MODEL}" in (caught.value.details() or "")


async def test_kserve_questions_about_the_server_are_answered_here(gateway: Gateway) -> None:
    assert (await kserve(gateway).ServerLive(service_pb2.ServerLiveRequest())).live
    assert (await kserve(gateway).ServerReady(service_pb2.ServerReadyRequest())).ready
    assert (await kserve(gateway).ServerMetadata(service_pb2.ServerMetadataRequest())).name == "flotilla"
    index = await kserve(gateway).RepositoryIndex(service_pb2.RepositoryIndexRequest())
    assert [model.name for model in index.models] == [TRITON_MODEL]


async def test_kserve_garbage_is_refused(gateway: Gateway) -> None:
    for method in ("ModelInfer", "RepositoryIndex"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.grpc.unary_unary(f"/inference.GRPCInferenceService/{method}")(b"\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_tells_the_gateway_and_each_service_apart(gateway: Gateway, embedding: FakeEmbedding) -> None:
    health = health_pb2_grpc.HealthStub(gateway.grpc)
    name = "flotilla.embedding.v1.EmbeddingService"
    watch = aiter(health.Watch(health_pb2.HealthCheckRequest(service=name)))
    assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVING
    await embedding.serve_nothing()
    assert (await anext(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    own = await health.Check(health_pb2.HealthCheckRequest())
    assert own.status == health_pb2.HealthCheckResponse.SERVING
    await embedding.serve_again()
    assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVING


async def test_every_call_of_vision_goes_through(vision_gateway: Gateway) -> None:
    stub, images = VisionServiceStub(vision_gateway.grpc), [vision_pb2.Image(data=b"a")]
    assert (await stub.Classify(vision_pb2.ClassifyRequest(images=images))).results[0].classifications[0].label == "cat"
    assert (await stub.Detect(vision_pb2.DetectRequest(images=images))).results[0].detections
    assert (await stub.ReadText(vision_pb2.ReadTextRequest(images=images))).results[0].lines
    assert (await stub.DetectFaces(vision_pb2.DetectFacesRequest(images=images))).results[0].faces
    assert len((await stub.ListModels(vision_pb2.ListModelsRequest())).models) == 4


async def test_results_of_a_vision_stream_arrive_one_by_one(vision_gateway: Gateway, vision: FakeVision) -> None:
    request = vision_pb2.ClassifyRequest(images=[vision_pb2.Image(data=b"a")] * 3)
    call = VisionServiceStub(vision_gateway.grpc).InferStream(vision_pb2.InferStreamRequest(classify=request))
    answers = aiter(call)
    first = await anext(answers)  # while the service holds back the second
    vision.released.set()
    rest = [answer async for answer in answers]
    assert [answer.classify.image.index for answer in (first, *rest[:-1])] == [0, 1, 2]
    assert (rest[-1].model, rest[-1].usage.images) == (CLASSIFIER, 3)


async def test_reflection_and_health_know_vision(vision_gateway: Gateway) -> None:
    name = "flotilla.vision.v1.VisionService"
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
    stub = reflection_pb2_grpc.ServerReflectionStub(vision_gateway.grpc)
    answer = await anext(aiter(stub.ServerReflectionInfo([question])))
    assert answer.file_descriptor_response.file_descriptor_proto
    health = health_pb2_grpc.HealthStub(vision_gateway.grpc)
    reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_describes_everything_that_is_forwarded(gateway: Gateway) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(gateway.grpc)

    async def ask(**question: Any) -> Any:
        return await anext(aiter(stub.ServerReflectionInfo([reflection_pb2.ServerReflectionRequest(**question)])))

    listed = {service.name for service in (await ask(list_services="")).list_services_response.service}
    assert listed >= {
        "flotilla.embedding.v1.EmbeddingService",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for name in listed:
        assert (await ask(file_containing_symbol=name)).file_descriptor_response.file_descriptor_proto
