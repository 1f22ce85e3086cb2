"""Bad input over gRPC: the right code, the field by name, and the next request works."""

import struct

import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb

from services.common.errors import Kind, from_rpc_error
from services.common.kserve import TYPED_ERRORS
from services.common.triton import service_pb2, service_pb2_grpc
from tests.bad_calls import BAD_CALLS, EMBED, assert_names, assert_refused, infer, infer_text, refused, text
from tests.integration.conftest import MODEL
from tests.integration.service_process import MAX_MESSAGE_BYTES


async def assert_works(stub):
    assert (await stub.Embed(pb.EmbedRequest(model=MODEL, inputs=[text("still well")]))).dimensions == 384


@pytest.mark.parametrize("case", BAD_CALLS)
async def test_bad_calls_are_refused_by_name(channel, stub, case):
    await assert_refused(channel, case)
    await assert_works(stub)


@pytest.mark.parametrize("name", ["gpt-4", "x" * 100_000, "ü" * 50_000])
async def test_an_unknown_model_is_not_found_however_long_its_name(stub, name):
    error = await refused(stub.Embed(pb.EmbedRequest(model=name, inputs=[text("a")])))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert_names(error, "model", Kind.NOT_FOUND)
    assert from_rpc_error(error).code == "model_not_found"


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x12\xff", b"\x0a\x02\xff\xfe", b"\x00" * 1000])
async def test_garbage_is_an_invalid_argument(channel, stub, raw):
    error = await refused(channel.unary_unary(EMBED)(raw))
    assert from_rpc_error(error).kind is Kind.INVALID_ARGUMENT
    await assert_works(stub)


async def test_an_unknown_method_is_unimplemented(channel):
    error = await refused(channel.unary_unary("/flotilla.embedding.v1.EmbeddingService/Sing")(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_over_the_limit_is_refused(channel, stub):
    error = await refused(channel.unary_unary(EMBED)(b"\x12" + b"\x00" * MAX_MESSAGE_BYTES))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await assert_works(stub)


async def test_every_answer_carries_the_request_id(stub):
    call = stub.Embed(pb.EmbedRequest(inputs=[text("a")]), metadata=(("x-request-id", "abc-1"),))
    assert dict(await call.trailing_metadata())["x-request-id"] == "abc-1"
    error = await refused(stub.Embed(pb.EmbedRequest(), metadata=(("x-request-id", "abc-2"),)))
    assert dict(error.trailing_metadata())["x-request-id"] == "abc-2"


# Raw KServe


@pytest.fixture
def kserve(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.mark.parametrize("values", [(1, -1, 1), (1, 30522, 1), (1, 2**62, 1)])
async def test_ids_outside_the_vocabulary_are_refused_by_the_model(kserve, values):
    error = await refused(kserve.ModelInfer(infer(raw=struct.pack("<3q", *values))))
    assert from_rpc_error(error).kind is Kind.INVALID_ARGUMENT
    assert "input_ids" in error.details()
    assert (await kserve.ModelInfer(infer())).outputs[0].shape == [1, 384]


async def test_text_that_is_not_utf8_is_refused_by_the_model(kserve):
    error = await refused(kserve.ModelInfer(infer_text(struct.pack("<I", 2) + b"\xff\xfe")))
    assert from_rpc_error(error).kind is Kind.INVALID_ARGUMENT
    assert "UTF-8" in error.details()


async def test_managing_triton_is_not_offered(kserve):
    error = await refused(kserve.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="x")))
    assert from_rpc_error(error).kind is Kind.UNIMPLEMENTED


async def test_a_stream_answers_good_and_bad_requests_and_ends(kserve):
    requests = [infer(), infer(datatype="INT32"), infer()]
    answers = [answer async for answer in kserve.ModelStreamInfer(iter(requests))]
    assert sorted(bool(answer.error_message) for answer in answers) == [False, False, True]


async def test_a_stream_with_typed_errors_ends_with_the_models_own(kserve):
    bad = infer(raw=struct.pack("<3q", 1, -1, 1))
    plain = [answer.error_message async for answer in kserve.ModelStreamInfer(iter([bad]))]
    for _ in range(10):
        call = kserve.ModelStreamInfer(iter([infer(), bad]), metadata=[TYPED_ERRORS])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [_ async for _ in call]
        assert from_rpc_error(caught.value).kind is Kind.INVALID_ARGUMENT
        assert [caught.value.details()] == plain and plain[0].startswith("input_ids")


async def test_garbage_on_a_stream_ends_it_with_a_typed_error(channel, kserve):
    call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b"\xff\xff\xff"]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [_ async for _ in call]
    assert from_rpc_error(caught.value).kind is Kind.INVALID_ARGUMENT
    assert (await kserve.ModelInfer(infer())).outputs[0].shape == [1, 384]


async def test_typed_contents_work_as_raw_ones(kserve):
    request = service_pb2.ModelInferRequest(model_name="all_minilm_l6_v2")
    for name in ("input_ids", "attention_mask"):
        request.inputs.add(name=name, datatype="INT64", shape=(1, 3)).contents.int64_contents.extend((1, 1, 1))
    typed, raw = await kserve.ModelInfer(request), await kserve.ModelInfer(infer())
    assert typed.raw_output_contents == raw.raw_output_contents
