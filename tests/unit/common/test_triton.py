import asyncio

import grpc
import numpy as np
import pytest

from services.common.errors import Kind, ServiceError
from services.common.triton import TritonClient, service_pb2, service_pb2_grpc

INPUTS = {"x": np.zeros((1, 1), np.float32)}
ERRORS = {
    "refused": "invalid argument: top_p is odd",
    "bad": "bad luck",
    "stub": "Stub process 'm_0' is not healthy.",
}


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers a request for model `ok`, and not one for `hang`."""

    def __init__(self):
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def ModelInfer(self, request, context):  # noqa: N802
        if request.model_name == "hang":
            self.hanging.set()
            await asyncio.Event().wait()
        if request.model_name == "stub":
            await context.abort(grpc.StatusCode.INTERNAL, "Stub process 'm_0' is not healthy.")
        if request.model_name == "bad":
            await context.abort(grpc.StatusCode.INTERNAL, "bad luck")
        return service_pb2.ModelInferResponse()

    async def ModelStreamInfer(self, request_iterator, context):  # noqa: N802
        request = await anext(aiter(request_iterator))
        assert "triton_grpc_error" not in dict(context.invocation_metadata()), "Triton dies of it"
        if request.model_name in ERRORS:
            yield service_pb2.ModelStreamInferResponse(error_message=ERRORS[request.model_name])
        if request.model_name == "gone":
            await context.abort(grpc.StatusCode.INTERNAL, "Stub process 'm_0' is not healthy.")
        for number in range(3):
            yield response(number)
        if request.model_name == "endless":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if request.model_name == "count":
            final = service_pb2.ModelStreamInferResponse()
            final.infer_response.parameters["triton_final_response"].bool_param = True
            yield final


def response(number):
    reply = service_pb2.ModelStreamInferResponse()
    reply.infer_response.outputs.add(name="y", datatype="INT32", shape=[1])
    reply.infer_response.raw_output_contents.append(np.int32(number).tobytes())
    return reply


@pytest.fixture
async def triton():
    server, fake = grpc.aio.server(), FakeTriton()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
    fake.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield fake
    await server.stop(None)


@pytest.fixture
def hangs():
    return []


@pytest.fixture
async def client(triton, hangs):
    async with TritonClient(triton.url, on_hang=hangs.append) as open_client:
        await open_client.infer("ok", INPUTS, [])
        yield open_client


async def failed(client, model, timeout=None) -> Kind:
    with pytest.raises(ServiceError) as caught:
        await client.infer(model, INPUTS, [], timeout)
    return caught.value.kind


async def test_a_time_out_in_which_nothing_was_answered_is_a_hang(client, hangs):
    assert await failed(client, "hang", 0.05) is Kind.DEADLINE_EXCEEDED
    assert hangs == ["Triton has answered nothing for 0.05 s"]


async def test_a_time_out_while_others_are_answered_is_not(triton, client, hangs):
    slow = asyncio.ensure_future(failed(client, "hang", 1.0))
    await triton.hanging.wait()
    await client.call("ModelInfer", service_pb2.ModelInferRequest(model_name="ok"), None)
    assert await slow is Kind.DEADLINE_EXCEEDED
    assert not hangs


async def test_the_deadline_of_a_raw_call_says_nothing_of_triton(client, hangs):
    with pytest.raises(ServiceError):
        await client.call("ModelInfer", service_pb2.ModelInferRequest(model_name="hang"), 0.05)
    assert not hangs


async def test_a_stub_that_does_not_answer_is_a_hang_and_other_failures_are_not(client, hangs):
    assert await failed(client, "bad") is Kind.INTERNAL
    assert not hangs
    assert await failed(client, "stub") is Kind.UNAVAILABLE
    assert len(hangs) == 1


async def test_a_stream_yields_each_response_and_ends_with_the_final_one(client):
    received = [outputs["y"].tolist() async for outputs in client.stream("count", INPUTS, ["y"])]
    assert received == [[0], [1], [2]]


async def test_a_stream_that_is_left_is_cancelled_in_triton(client, triton):
    stream = client.stream("endless", INPUTS, ["y"])
    assert (await anext(stream))["y"].tolist() == [0]
    await stream.aclose()
    await triton.cancelled.wait()


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ("bad", Kind.INTERNAL, "the model failed: bad luck"),
        ("refused", Kind.INVALID_ARGUMENT, "top_p is odd"),
        ("broken", Kind.UNAVAILABLE, "the inference server is not available; it is being restarted"),
    ],
)
async def test_a_stream_that_fails_says_why(client, model, kind, message):
    with pytest.raises(ServiceError) as caught:
        async for _ in client.stream(model, INPUTS, ["y"]):
            pass
    assert (caught.value.kind, caught.value.message) == (kind, message)


@pytest.mark.parametrize("model", ["stub", "gone"])
async def test_a_stream_of_a_dead_stub_is_a_hang(client, hangs, model):
    with pytest.raises(ServiceError) as caught:
        async for _ in client.stream(model, INPUTS, ["y"]):
            pass
    assert (caught.value.kind, len(hangs)) == (Kind.UNAVAILABLE, 1)
