"""Bad input over gRPC: the right code, the field by name, and the next request works."""

import grpc
import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, from_rpc_error
from tests.integration.llm.calls import collect, completion
from tests.unit.llm.bad_requests import BAD_CHAT, BAD_GENERATE


async def refused(stream):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(stream)
    return from_rpc_error(caught.value)


async def test_bad_requests_are_refused_by_name(stub):
    for cases, method in ((BAD_GENERATE, stub.Generate), (BAD_CHAT, stub.Chat)):
        for case, (request, field) in cases.items():
            error = await refused(method(request))
            assert (error.kind, error.field) == (Kind.INVALID_ARGUMENT, field), case
    (answer,), _ = await collect(stub.Generate(completion("still well", max_tokens=2)))
    assert answer.tokens


async def test_a_grammar_the_engine_cannot_follow_is_named(stub, service):
    before = await service.metric("flotilla_llm_grammar_faults_total")
    for grammar in ("root ::= foo", "root ::= (", 'start ::= "a"'):
        error = await refused(stub.Generate(completion("a", pb.OutputFormat(grammar=grammar))))
        assert (error.kind, error.field) == (Kind.INVALID_ARGUMENT, "format.grammar"), grammar
    assert await service.metric("flotilla_llm_grammar_faults_total") == before + 3


async def test_an_unknown_model_is_not_found(stub):
    error = await refused(stub.Generate(pb.GenerateRequest(model="gpt-4", text="a")))
    assert (error.kind, error.field, error.code) == (Kind.NOT_FOUND, "model", "model_not_found")


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x12\x02\xff\xfe", b"\x00" * 1000])
async def test_garbage_is_an_invalid_argument(channel, raw):
    call = channel.unary_stream("/flotilla.llm.v1.LlmService/Generate")(raw)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [_ async for _ in call]
    assert from_rpc_error(caught.value).kind is Kind.INVALID_ARGUMENT
