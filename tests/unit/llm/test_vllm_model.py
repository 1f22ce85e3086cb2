"""The engine's contract on vLLM's backend: parameters, tokens, alternatives, ends, counts, faults; no Triton."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from services.common.errors import Kind, ServiceError
from services.llm.model import CONTINUES, ENDED, LIMITED
from services.llm.settings import LlmSettings
from services.llm.vllm_model import VllmModel, sampling_parameters

ENDS = (0, 2)


class Spelled:
    def spell(self, ids):
        return "|".join(map(str, ids))


def entry(*tokens):
    return {number: {"logprob": logprob, "rank": 1, "decoded_token": None} for number, logprob in tokens}


def response(entries, finish="None", prompt=3):
    return {
        "logprobs": np.array([json.dumps(entries).encode()], dtype=np.object_),
        "finish_reason": np.array([finish.encode()], dtype=np.object_),
        "num_input_tokens": np.array(prompt, dtype=np.uint32),
    }


class Triton:
    """Plays responses; what comes after them is raised."""

    def __init__(self, *responses, fault=None, ready=True):
        self.responses, self.fault, self.ready = responses, fault, ready
        self.sent, self.hangs, self.closed = [], [], False

    async def stream(self, model, inputs, outputs, timeout=None):
        self.sent.append({name: value[0] for name, value in inputs.items()})
        try:
            for one in self.responses:
                yield one
            if self.fault is not None:
                raise self.fault
        finally:
            self.closed = True

    async def call(self, method, request, timeout):
        return SimpleNamespace(ready=self.ready)

    def report_hang(self, why):
        self.hangs.append(why)


def model(triton, **settings):
    return VllmModel(triton, "m", LlmSettings(**settings), Spelled(), ENDS)


async def steps(engine, **options):
    return [step async for step in engine.generate([5, 6, 7], {"max_new_tokens": 9, **options}, None)]


def test_options_become_sampling_parameters():
    options = {
        "max_new_tokens": 5,
        "min_new_tokens": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "repetition_penalty": 1.1,
        "ignore_eos": True,
        "seed": 2**64 - 1,
        "logprobs": True,
        "top_logprobs": 3,
        "grammar": 'root ::= "a"',
    }
    found = sampling_parameters(options)
    assert json.loads(found.pop("structured_outputs")) == {"grammar": 'root ::= "a"'}
    assert found == {
        "max_tokens": 5,
        "min_tokens": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "repetition_penalty": 1.1,
        "ignore_eos": True,
        "seed": 2**63 - 1,
        "logprobs": 3,
        "detokenize": False,
    }


def test_the_ids_are_asked_for_even_where_no_log_probability_is():
    assert sampling_parameters({"max_new_tokens": 1, "temperature": 0})["logprobs"] == 0


async def test_tokens_come_as_they_are_made_and_the_end_is_left_out():
    triton = Triton(
        response([entry((9, -0.1))]),
        response([entry((8, -0.2)), entry((7, -0.3))]),
        response([entry((2, -0.4))], "stop"),
    )
    found = await steps(model(triton))
    assert [(step.ids, step.finish) for step in found] == [([9], CONTINUES), ([8, 7], CONTINUES), ([], ENDED)]
    assert [step.logprobs for step in found] == [[-0.1], [-0.2, -0.3], []]
    (sent,) = triton.sent
    assert sent["text_input"] == b"5|6|7"
    assert all(sent[flag] for flag in ("stream", "return_finish_reason", "return_logprobs", "return_num_input_tokens"))


async def test_an_end_token_counts_where_ends_are_ignored():
    triton = Triton(response([entry((9, -0.1)), entry((2, -0.2))], "length"))
    (step,) = await steps(model(triton), ignore_eos=True)
    assert (step.ids, step.finish) == ([9, 2], LIMITED)


async def test_alternatives_are_the_best_whether_the_chosen_one_is_among_them_or_not():
    chosen_last = entry((9, -5.0), (3, -0.1), (4, -0.7))
    chosen_first = entry((3, -0.1), (4, -0.7))
    (step,) = await steps(model(Triton(response([chosen_last, chosen_first], "length"))), top_logprobs=2, logprobs=True)
    assert step.ids == [9, 3]
    assert step.logprobs == [-5.0, -0.1]
    assert step.top == [[(3, -0.1), (4, -0.7)]] * 2


async def test_the_engine_counts_no_tokens_in_a_response_without_any():
    found = await steps(model(Triton(response(None), response([entry((1, -0.1))], "length"))))
    assert [step.ids for step in found] == [[], [1]]


async def test_another_prompt_than_was_sent_is_an_internal_error():
    with pytest.raises(ServiceError) as caught:
        await steps(model(Triton(response([entry((9, -0.1))], prompt=4))))
    assert caught.value.kind is Kind.INTERNAL


@pytest.mark.parametrize(
    ("message", "options", "kind", "hangs"),
    [
        ("Error generating stream: Invalid grammar specification.", {"grammar": "x"}, Kind.INVALID_ARGUMENT, 0),
        ("Error generating stream: Invalid grammar specification.", {}, Kind.INTERNAL, 0),
        ("Error generating stream: 'NoneType' object has no attribute 'lora_name'", {}, Kind.INTERNAL, 0),
        ("Error generating stream: EngineCore encountered an issue. See stack trace", {}, Kind.UNAVAILABLE, 1),
        ("Model is unavailable due to unhealthy vLLM engine", {"grammar": "x"}, Kind.UNAVAILABLE, 1),
    ],
)
async def test_faults_of_the_backend(message, options, kind, hangs):
    triton = Triton(fault=ServiceError(Kind.INTERNAL, message))
    engine = model(triton)
    with pytest.raises(ServiceError) as caught:
        await steps(engine, **options)
    assert caught.value.kind is kind
    assert len(triton.hangs) == hangs
    assert (await engine.statistics()).cancelled == 0


async def test_an_answer_that_the_engine_gives_up_is_no_answer():
    with pytest.raises(ServiceError) as caught:
        await steps(model(Triton(response([], "abort"))))
    assert caught.value.kind is Kind.UNAVAILABLE
    assert caught.value.retry_after


async def test_the_statistics_are_the_services_own_counts():
    triton = Triton(response([entry((9, -0.1))]), response([entry((8, -0.1))], "length"))
    engine = model(triton)
    answer = engine.generate([5, 6, 7], {"max_new_tokens": 9}, None)
    await anext(answer)
    now = await engine.statistics()
    assert (now.running, now.waiting, now.prompt_tokens, now.generated_tokens) == (1, 0, 3, 1)
    await answer.aclose()
    now = await engine.statistics()
    assert (now.running, now.waiting, now.cancelled, now.kv_cache) == (0, 0, 1, 0)
    assert triton.closed
    assert len(await steps(engine)) == 2
    now = await engine.statistics()
    assert (now.cancelled, now.prompt_tokens, now.generated_tokens, now.steps) == (1, 6, 3, 3)


async def test_open_streams_from_which_nothing_comes_are_a_hang(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("services.llm.vllm_model.time.monotonic", lambda: now[0])
    triton = Triton(response([entry((9, -0.1))]), response([entry((8, -0.1))], "length"))
    engine = model(triton, engine_silence_seconds=30)
    now[0] += 1000  # idle for long: no fault
    await engine.statistics()
    answer = engine.generate([5, 6, 7], {"max_new_tokens": 9}, None)
    await anext(answer)
    now[0] += 29
    await engine.statistics()
    now[0] += 2
    with pytest.raises(ServiceError):
        await engine.statistics()
    assert len(triton.hangs) == 1
    await answer.aclose()


async def test_an_engine_that_the_backend_has_unloaded_is_dead():
    triton = Triton(ready=False)
    with pytest.raises(ServiceError) as caught:
        await model(triton).statistics()
    assert caught.value.kind is Kind.UNAVAILABLE
    assert len(triton.hangs) == 1
