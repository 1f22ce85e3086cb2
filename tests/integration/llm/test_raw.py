"""The engine by raw KServe v2, as a client sees it who asks for typed errors."""

import asyncio

import grpc
import numpy as np
import pytest

from services.common.errors import Kind, from_rpc_error
from services.common.kserve import TYPED_ERRORS
from services.common.triton import service_pb2, service_pb2_grpc
from services.llm.model import GRAMMAR, INPUT_IDS, OPTIONS, OUTPUT_IDS


def infer(options: bytes) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="smollm2_135m_instruct")
    for name, array in ((INPUT_IDS, np.array([1, 2, 3], np.int32)), (OPTIONS, np.frombuffer(options, np.uint8))):
        datatype = {"int32": "INT32", "uint8": "UINT8"}[array.dtype.name]
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


async def test_refusals_have_their_status_and_harm_nobody(channel, service):
    """Triton dies of some of them, between streams that were left, where it is asked to end the stream itself."""
    kserve = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    before = await service.metric("flotilla_triton_restarts")
    long = infer(b'{"max_new_tokens": 2000, "ignore_eos": true}')
    for _ in range(10):
        left = [kserve.ModelStreamInfer(iter([long])) for _ in range(8)]
        for call in left:
            assert [tensor.name for tensor in (await call.read()).infer_response.outputs if tensor.name == OUTPUT_IDS]
        for call in left:
            call.cancel()
        for _ in range(10):
            call = kserve.ModelStreamInfer(iter([infer(b'{"top_p": 0}')]), metadata=[TYPED_ERRORS])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                [_ async for _ in call]
            assert from_rpc_error(caught.value).kind is Kind.INVALID_ARGUMENT
            assert str(caught.value.details()).startswith("options.top_p")
    assert await service.metric("flotilla_triton_restarts") == before


async def test_a_stream_may_name_models_of_both_kinds(channel, service):
    """Triton writes their answers at once, and dies of it, where they are on one stream of its own."""
    kserve = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    before = await service.metric("flotilla_triton_restarts")
    story = infer(b'{"max_new_tokens": 8, "ignore_eos": true}')
    check = service_pb2.ModelInferRequest(model_name="smollm2_135m_instruct_grammar", id="check")
    check.inputs.add(name=GRAMMAR, datatype="UINT8", shape=[12])
    check.raw_input_contents.append(b'root ::= "a"')
    bad = service_pb2.ModelInferRequest(model_name="smollm2_135m_instruct_score", id="bad")
    bad.inputs.add(name=INPUT_IDS, datatype="INT32", shape=[1])
    bad.raw_input_contents.append(np.array([-1], np.int32).tobytes())
    odd = infer(b'{"top_p": 0}')

    async def one_stream():
        requests = [odd, story, check, odd, check, bad, check]
        answers = [answer async for answer in kserve.ModelStreamInfer(iter(requests))]
        named = [answer.infer_response.model_name for answer in answers if answer.infer_response.id == "check"]
        assert named == ["smollm2_135m_instruct_grammar"] * 3
        refused = [answer.error_message for answer in answers if answer.error_message]
        fields = sorted(message.partition(":")[0] for message in refused)
        assert fields == ["input_ids", "options.top_p", "options.top_p"]
        outputs = [tensor for answer in answers for tensor in answer.infer_response.outputs]
        assert sum(tensor.shape[0] for tensor in outputs if tensor.name == OUTPUT_IDS) == 8

    for _ in range(20):
        await asyncio.gather(*(one_stream() for _ in range(6)))
    assert await service.metric("flotilla_triton_restarts") == before
