"""The service on Triton's vLLM backend: tests of its contract again, and what is particular to this engine."""

import grpc
import numpy as np
import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, ServiceError
from services.common.triton import TritonClient, service_pb2, service_pb2_grpc
from tests.integration.llm.calls import MODEL, collect, completion, conversation
from tests.integration.llm.test_answers import (  # noqa: F401
    test_chat_answers_and_ends_by_itself,
    test_ignore_eos_and_min_tokens,
    test_seeds,
    test_stop_strings_end_the_answer_before_them,
    test_template_injection_stays_text,
    test_token_ids_are_a_prompt_like_their_text,
)
from tests.integration.llm.test_constraints import (  # noqa: F401
    test_choices,
    test_forced_calls_are_valid,
    test_grammars,
    test_json_objects,
    test_several_answers_each_keep_the_constraint,
)
from tests.integration.llm.test_faults import (  # noqa: F401
    test_a_caller_that_leaves_stops_the_engine,
    test_a_deadline_ends_an_answer_on_its_way,
)
from tests.integration.llm.test_refusals import test_a_grammar_the_engine_cannot_follow_is_named  # noqa: F401
from tests.waiting import until

ENGINE = MODEL.replace("-", "_")


async def test_the_profile_is_said(stub):
    (model,) = (await stub.ListModels(pb.ListModelsRequest())).models
    assert (model.id, model.profile) == (MODEL, "vllm-bf16-tp1")


async def test_special_tokens_that_a_caller_spells_stay_text(stub, tokenizer):
    text = "Say <|im_end|> twice, and \ue000 once: 😀 größer"
    ids = tokenizer.encode(text)
    (answer,), usage = await collect(stub.Generate(completion(text, max_tokens=3, temperature=0)))
    assert usage.prompt_tokens == len(ids) > 10
    assert usage.completion_tokens == len(answer.tokens) == 3


async def test_alternatives_come_from_the_engine(stub):
    request = completion("The sun rises in", max_tokens=8, logprobs=True, top_logprobs=3, temperature=0)
    pieces = [piece async for piece in stub.Generate(request) if piece.logprobs]
    assert len(pieces) > 1, "they stream: no pass of the scorer is waited for"
    for position in (position for piece in pieces for position in piece.logprobs):
        assert len(position.top) == 3
        assert position.top[0].id == position.token.id
        assert position.top[0].logprob == position.token.logprob


async def test_the_log_probabilities_of_a_prompt_come_from_the_scorer(stub):
    request = completion("The sun rises", echo=True, max_tokens=0, logprobs=True, top_logprobs=1)
    (answer,), usage = await collect(stub.Generate(request))
    assert answer.text == "The sun rises"
    assert len(answer.logprobs) == usage.prompt_tokens
    assert answer.logprobs[-1].token.logprob < 0


async def test_raw_requests_take_what_the_backend_takes(channel):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    config = (await stub.ModelConfig(service_pb2.ModelConfigRequest(name=ENGINE))).config
    assert config.backend == "vllm"
    assert {tensor.name for tensor in config.input if not tensor.optional} == {"text_input"}


async def test_a_sampling_parameter_that_vllm_does_not_know_is_an_error_and_no_hang(service):
    text = np.array([b"x"], dtype=np.object_)
    inputs = {"text_input": text, "stream": np.array([True]), "sampling_parameters": np.array([b'{"beams": 3}'], "O")}
    async with TritonClient(service.address) as client:
        with pytest.raises(ServiceError) as caught:
            [_ async for _ in client.stream(ENGINE, inputs, ["text_output"])]
    assert caught.value.kind is Kind.INTERNAL


async def test_the_gauges_count_for_the_engine(service, stub):
    call = stub.Generate(completion("Once upon a time", max_tokens=2000, ignore_eos=True))
    await call.read()

    async def runs():
        return await service.metric("flotilla_llm_running") == 1

    await until(runs, "the answer")
    call.cancel()

    async def rests():
        return await service.metric("flotilla_llm_running") == 0

    await until(rests, "the engine to be idle")
    assert await service.metric("flotilla_llm_kv_cache_usage") == 0
    assert await service.metric("flotilla_saturation") >= 0


async def test_a_stand_still_ends_the_streams_and_the_engine_comes_back(service, stub):
    call = stub.Generate(completion("Once upon a time", max_tokens=4000, ignore_eos=True))
    await call.read()
    for process in service.stubs():
        process.kill()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await service.wait_restarted()
    (answer,), _ = await collect(stub.Chat(conversation("Say hello.", pb.Sampling(max_tokens=5))))
    assert answer.tokens
