import asyncio
import json

import pytest
from flotilla.llm.v1 import llm_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Kind, ServiceError
from services.llm.model import LIMITED, Statistics
from tests.unit.llm.bad_requests import BAD_CHAT, BAD_GENERATE, TOOL, S
from tests.unit.llm.fakes import CONTEXT, FakeContext, Service, text_of
from tests.waiting import until


@pytest.fixture
def service(tokenizer):
    return Service(tokenizer)


@pytest.mark.parametrize("case", [*BAD_GENERATE, *BAD_CHAT])
async def test_every_refusal_names_its_field_and_computes_nothing(tokenizer, case):
    service = Service(tokenizer, context=2000)
    request, field = {**BAD_GENERATE, **BAD_CHAT}[case]
    method = service.Generate if case in BAD_GENERATE else service.Chat
    with pytest.raises(ServiceError) as caught:
        [_ async for _ in method(request, FakeContext())]
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, field)
    assert caught.value.message.startswith(field.split("[")[0].split(".")[0])
    assert not service.admission.admitted
    assert not service.model.asked


async def test_an_unknown_model_is_not_found(service):
    with pytest.raises(ServiceError, match="loaded: m") as caught:
        await service.generate(model="x", text="a")
    assert (caught.value.kind, caught.value.field, caught.value.code) == (Kind.NOT_FOUND, "model", "model_not_found")


async def test_text_streams_and_the_last_message_is_the_usage(service):
    *pieces, last = await service.generate(text="abc")
    assert text_of(pieces) == "hello world"
    assert [m.finish_reason for m in pieces].count(pb.FINISH_REASON_STOP) == 1
    assert pieces[-1].finish_reason == pb.FINISH_REASON_STOP
    assert [number for m in pieces for number in m.tokens] == service.model.tokenizer.encode("hello world")
    assert last == pb.GenerateResponse(
        model="m",
        usage=pb.Usage(
            prompt_tokens=3, completion_tokens=len(service.model.tokenizer.encode("hello world")), cached_tokens=3
        ),
    )


async def test_defaults_are_the_contracts(service):
    await service.generate(text="abc")
    await service.chat("hi")
    (_, first, _), (prompt, second, _) = service.model.asked
    assert {key: first[key] for key in first if key != "seed"} == {"max_new_tokens": 16, "temperature": 1.0}
    assert second["max_new_tokens"] == CONTEXT - len(prompt)


async def test_parameters_reach_the_engine(service):
    await service.generate(
        FakeContext(remaining=7.0),
        text="abc",
        sampling=S(
            max_tokens=5,
            temperature=0.7,
            top_p=0.9,
            top_k=3,
            min_p=0.1,
            frequency_penalty=1,
            presence_penalty=-1,
            repetition_penalty=1.1,
            seed=2**64 - 1,
            min_tokens=2,
            ignore_eos=True,
            n=2,
            logprobs=True,
        ),
    )
    (_, first, timeout), (_, second, _) = service.model.asked
    assert timeout == 7.0
    assert first == {
        "max_new_tokens": 5, "temperature": 0.7, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "frequency_penalty": 1.0,
        "presence_penalty": -1.0, "repetition_penalty": 1.1, "seed": 2**64 - 1, "min_new_tokens": 2, "ignore_eos": True,
        "logprobs": True,
    }  # fmt: skip
    assert second["seed"] == 0


async def test_too_long_has_both_numbers_and_its_code(service):
    with pytest.raises(ServiceError, match="201 were asked for") as caught:
        await service.generate(text="a", sampling=S(max_tokens=CONTEXT))
    assert (caught.value.field, caught.value.code) == ("sampling.max_tokens", "context_length_exceeded")
    with pytest.raises(ServiceError, match="300 in the prompt") as caught:
        await service.generate(text="a" * 300)
    assert (caught.value.field, caught.value.code) == ("text", "context_length_exceeded")


async def test_n_answers_are_n_requests_and_places(service):
    messages = await service.generate(text="abc", sampling=S(n=3))
    assert {text_of(messages, i) for i in range(3)} == {"hello world"}
    assert len(service.model.asked) == len(service.admission.admitted) == 3
    finished = [m.index for m in messages if m.finish_reason]
    assert sorted(finished) == [0, 1, 2]


async def test_a_stop_string_ends_the_answer_before_it_and_the_engines_work(service):
    messages = await service.generate(text="abc", sampling=S(stop=["o w"]))
    assert text_of(messages) == "hell"
    assert messages[-2].finish_reason == pb.FINISH_REASON_STOP
    assert service.model.open == 0


@given(st.text("hel wo", min_size=1, max_size=4), st.data())
async def test_tokens_sent_are_those_of_the_text_sent(tokenizer, stop, data):
    service = Service(tokenizer, data.draw(st.text("hel wo😀", max_size=20)))
    messages = await service.generate(text="abc", sampling=S(stop=[stop], max_tokens=100))
    text, tokens = text_of(messages), [number for m in messages for number in m.tokens]
    assert stop not in text
    assert tokenizer.decode(tokens).startswith(text)
    assert len(tokenizer.decode(tokens[:-1])) < len(text) or not tokens or "😀" in service.model.text


async def test_a_limit_is_a_finish_reason(tokenizer):
    messages = await Service(tokenizer, finish=LIMITED).generate(text="abc")
    assert messages[-2].finish_reason == pb.FINISH_REASON_LENGTH


async def test_logprobs_of_the_chosen_come_with_the_stream(service):
    messages = await service.generate(text="abc", sampling=S(logprobs=True))
    positions = [p for m in messages for p in m.logprobs]
    assert b"".join(p.token.text for p in positions) == b"hello world"
    assert {p.token.logprob for p in positions} == {-0.5}
    assert not service.model.scored


async def test_alternatives_come_in_bursts_of_doubling_length(tokenizer):
    service = Service(tokenizer, "x" * 60)
    messages = await service.generate(text="abc", sampling=S(logprobs=True, top_logprobs=2, max_tokens=60))
    positions = [p for m in messages for p in m.logprobs]
    assert len(positions) == 60
    assert service.model.scored == [3 + 8, 3 + 24, 3 + 56, 3 + 60]
    assert [p.token.logprob for p in positions] == [-3.0 - i for i in range(60)]
    assert {len(p.top) for p in positions} == {2}
    assert text_of(messages) == "x" * 60


async def test_echo_sends_the_prompt_with_its_logprobs_and_needs_no_answer(service):
    first, *_, last = await service.generate(
        text="hello", echo=True, sampling=S(max_tokens=0, logprobs=True, top_logprobs=1)
    )
    assert first.text == "hello"
    assert not first.logprobs[0].token.HasField("logprob")
    assert all(p.token.HasField("logprob") for p in first.logprobs[1:])
    assert first.finish_reason == pb.FINISH_REASON_LENGTH or last
    assert last.usage.completion_tokens == 0
    assert not service.model.asked


@pytest.mark.parametrize(("tokens", "goes_on"), [(1, True), (2, False)])
async def test_one_token_after_an_echo_has_an_entry_even_if_it_is_the_end(service, tokens, goes_on):
    await service.generate(text="hello", echo=True, sampling=S(max_tokens=tokens, logprobs=True))
    assert service.model.asked[0][1].get("ignore_eos", False) is goes_on


async def test_a_grammar_is_checked_once_and_a_bad_one_names_its_field(service):
    service.model.text = '{"a": 1}'
    for _ in range(2):
        await service.generate(text="a", format=pb.OutputFormat(json_object=True))
    assert len(service.model.grammars) == 1
    assert service.model.asked[0][1]["grammar"] == service.model.grammars[0]
    service.model.grammar_verdict = "line 1: bad"
    with pytest.raises(ServiceError, match="line 1: bad") as caught:
        await service.generate(text="a", format=pb.OutputFormat(grammar="root ::= foo"))
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, "format.grammar")
    assert len(service.model.asked) == 2


async def test_an_answer_that_breaks_its_constraint_is_our_fault(service):
    with pytest.raises(ServiceError) as caught:
        await service.generate(text="a", format=pb.OutputFormat(json_object=True))
    assert caught.value.kind is Kind.INTERNAL
    assert ("invalid_answer", "m") in service.instruments.counted


async def test_a_string_longer_than_the_grammar_counts_ran_into_a_limit(tokenizer):
    service = Service(tokenizer, json.dumps("x" * 120))
    schema = json.dumps({"type": "string", "maxLength": 100})
    messages = await service.generate(text="a", format=pb.OutputFormat(json_schema=schema), sampling=S(max_tokens=150))
    assert messages[-2].finish_reason == pb.FINISH_REASON_LENGTH


async def test_tool_calls_stream_as_deltas(tokenizer):
    service = Service(tokenizer, 'Now.<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', context=2000)
    messages = await service.chat(tools=[TOOL])
    assert text_of(messages) == "Now."
    deltas = [delta for m in messages for delta in m.tool_calls]
    assert (deltas[0].name, deltas[0].id[:5]) == ("f", "call_")
    assert "".join(delta.arguments for delta in deltas) == '{"a": 1}'
    assert messages[-2].finish_reason == pb.FINISH_REASON_TOOL_CALLS


@pytest.mark.parametrize("n", [1, 3])
async def test_a_fault_of_the_engine_comes_after_what_was_made_and_cancels_the_others(service, n):
    service.model.fault = ServiceError(Kind.UNAVAILABLE, "died")
    seen = []
    with pytest.raises(ServiceError, match="died"):
        async for message in service.Generate(pb.GenerateRequest(text="a", sampling=S(n=n)), FakeContext()):
            seen.append(message.text)
    assert "".join(seen).startswith("hello")
    assert (service.model.open, service.admission.running) == (0, 0)


async def test_a_caller_that_leaves_cancels_the_work(service):
    service.model.hangs = True
    call = service.Generate(pb.GenerateRequest(text="a", sampling=S(n=2)), FakeContext())
    await anext(call)
    await until(lambda: service.model.open == 2, "both answers")
    await call.aclose()
    assert (service.model.open, service.admission.running) == (0, 0)
    assert [entry[0] for entry in service.instruments.counted].count("cancelled") == 2


async def test_an_engine_that_dies_silently_ends_its_answers(service):
    service.model.hangs = True
    call = asyncio.ensure_future(service.generate(text="a"))
    await until(lambda: service.model.open, "the answer")
    service.model.statistic = ServiceError(Kind.UNAVAILABLE, "gone")
    await service.watch.ask()
    with pytest.raises(ServiceError) as caught:
        await call
    assert (caught.value.kind, caught.value.retry_after) == (Kind.UNAVAILABLE, 2.0)
    assert service.model.open == 0


async def test_overload_refuses_before_anything_is_sent(service):
    service.admission.full = True
    with pytest.raises(ServiceError) as caught:
        await service.generate(text="a", sampling=S(n=2))
    assert (caught.value.kind, caught.value.retry_after) == (Kind.OVERLOADED, 1.0)


async def test_capacity_is_learnt_from_full_periods_only(service):
    load, watch, now = service.watch._load, service.watch, [0.0]
    watch._clock = lambda: now[0]
    watch._at = 0.0
    for running, tokens in ((1, 0), (1, 10), (4, 20), (4, 520)):
        service.model.statistic = Statistics(running=running, generated_tokens=tokens, steps=tokens)
        now[0] += 1.0
        await watch.ask()
    assert load.capacity == 500


async def test_tokens_are_counted_and_turned_to_text_and_back(service, tokenizer):
    ids = tokenizer.encode("hello <|im_end|>")
    counted = await service.CountTokens(pb.CountTokensRequest(text="hello <|im_end|>"), FakeContext())
    assert (counted.tokens, counted.context_length) == (len(ids), CONTEXT)
    made = await service.Tokenize(pb.TokenizeRequest(text="hello <|im_end|>"), FakeContext())
    assert (list(made.ids), b"".join(made.tokens)) == (ids, b"hello <|im_end|>")
    assert (await service.Detokenize(pb.DetokenizeRequest(ids=ids), FakeContext())).text == "hello <|im_end|>"
    chat = pb.ChatRequest(messages=[pb.Message(role=pb.ROLE_USER, content="hi")])
    assert (await service.CountTokens(pb.CountTokensRequest(chat=chat), FakeContext())).tokens > 5
    for call in (
        service.CountTokens(pb.CountTokensRequest(), FakeContext()),
        service.Tokenize(pb.TokenizeRequest(), FakeContext()),
    ):
        with pytest.raises(ServiceError) as caught:
            await call
        assert caught.value.field == "input"
    with pytest.raises(ServiceError) as caught:
        await service.Detokenize(pb.DetokenizeRequest(ids=[1, 10**6]), FakeContext())
    assert caught.value.field == "ids[1]"


async def test_models_are_listed(service):
    (model,) = (await service.ListModels(pb.ListModelsRequest(), FakeContext())).models
    assert (model.id, model.context_length) == ("m", CONTEXT)
