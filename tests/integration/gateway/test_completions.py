"""POST /v1/completions: what reaches the service, and the shapes of the answer."""

from typing import Any

import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import invalid
from tests.bad_requests import assert_refused
from tests.integration.gateway.chat_bodies import choices, complete, events
from tests.integration.gateway.fake_llm import LENGTH, MODEL, STOP, USAGE, FakeLlm, likely
from tests.integration.gateway.gateway import Gateway

ECHO = (
    pb.GenerateResponse(
        text="Ça",
        logprobs=[likely("Ç", None), likely("a", -1.0, ("b", -0.5))],
    ),
    pb.GenerateResponse(text=" va", logprobs=[likely(" v", -0.25, (" v", -0.25)), likely(b"\xff", -2.0)]),
    pb.GenerateResponse(finish_reason=LENGTH),
    pb.GenerateResponse(usage=USAGE),
)


async def test_an_answer(llm_gateway: Gateway) -> None:
    body = (await complete(llm_gateway)).json()
    assert body.pop("id").startswith("cmpl-")
    assert body.pop("created") > 1_600_000_000
    assert body.pop("usage")["total_tokens"] == 8
    assert body == {
        "object": "text_completion",
        "model": MODEL,
        "system_fingerprint": None,
        "choices": [{"index": 0, "text": "Hello wörld", "logprobs": None, "finish_reason": "stop"}],
    }


async def test_a_stream(llm_gateway: Gateway) -> None:
    chunks = events(await complete(llm_gateway, stream=True, stream_options={"include_usage": True}))
    assert {(chunk["object"], chunk["model"]) for chunk in chunks} == {("text_completion", MODEL)}
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": " wörld", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 3
    assert chunks[-1]["usage"]["prompt_tokens"] == 5


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([7, 8], [[7, 8]]),
        ([[7], [8, 9]], [[7], [8, 9]]),
    ],
)
async def test_every_form_of_prompt(llm_gateway: Gateway, llm: FakeLlm, given: Any, sent: list[Any]) -> None:
    def script(response: Any, request: Any) -> list[Any]:
        text = request.text or f"ids {list(request.tokens.ids)}"
        return [response(index=i, text=f"{text} {i}") for i in range(2)] + [response(usage=USAGE)]

    llm.script = script
    body = (await complete(llm_gateway, prompt=given, n=2)).json()
    texts = [item if isinstance(item, str) else f"ids {item}" for item in sent]
    expected = [(2 * i + j, f"{text} {j}") for i, text in enumerate(texts) for j in range(2)]
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == expected
    assert body["usage"]["total_tokens"] == 8 * len(sent)
    streamed = choices(await complete(llm_gateway, prompt=given, n=2, stream=True))
    assert sorted((choice["index"], choice["text"]) for choice in streamed) == expected


async def test_echo_with_logprobs_as_harnesses_ask_for_it(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(*ECHO)
    body = (await complete(llm_gateway, prompt=[[1, 2]], max_tokens=1, logprobs=1, echo=True, temperature=0)).json()
    (choice,) = body["choices"]
    assert choice["text"] == "Ça va"
    assert choice["logprobs"] == {
        "tokens": ["Ç", "a", " v", "bytes:\\xff"],
        "token_logprobs": [None, -1.0, -0.25, -2.0],
        "top_logprobs": [None, {"b": -0.5, "a": -1.0}, {" v": -0.25}, {"bytes:\\xff": -2.0}],
        "text_offset": [0, 1, 2, 4],
    }
    sampling = llm.request.sampling
    assert (llm.request.echo, sampling.logprobs, sampling.top_logprobs, sampling.max_tokens) == (True, True, 1, 1)
    streamed = choices(await complete(llm_gateway, logprobs=1, echo=True, stream=True))
    assert [part for piece in streamed if piece["logprobs"] for part in piece["logprobs"]["text_offset"]] == [
        0,
        1,
        2,
        4,
    ]


async def test_scoring_without_generating(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(*ECHO)
    assert (await complete(llm_gateway, max_tokens=0, echo=True, logprobs=0)).status_code == 200
    sampling = llm.request.sampling
    assert (sampling.HasField("max_tokens"), sampling.max_tokens, sampling.logprobs) == (True, 0, True)


async def test_more_prompts_than_run_at_once(llm_gateway: Gateway, llm: FakeLlm) -> None:
    most = [0]

    def script(response: Any, request: Any) -> list[Any]:
        async def note() -> None:
            most[0] = max(most[0], llm.running_calls)

        return [note, response(text=request.text), response(finish_reason=STOP), response(usage=USAGE)]

    llm.script = script
    prompts = [f"prompt {i}" for i in range(128)]
    body = (await complete(llm_gateway, prompt=prompts)).json()
    assert [choice["text"] for choice in body["choices"]] == prompts
    assert most[0] <= 16


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt[1]"),
        ({"prompt": [5, "a"]}, "prompt[1]"),
        ({"prompt": [[1], "a"]}, "prompt[1]"),
        ({"prompt": [[-1]]}, "prompt[0][0]"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"echo": 1}, "echo"),
        ({"messages": []}, "messages"),
    ],
)
async def test_bad_values_are_refused_by_name(llm_gateway: Gateway, change: dict[str, Any], param: str) -> None:
    assert_refused(await complete(llm_gateway, **change), 400, param)


async def test_best_of_as_many_as_n(llm_gateway: Gateway) -> None:
    assert (await complete(llm_gateway, best_of=2, n=2)).status_code == 200


@pytest.mark.parametrize(
    ("prompt", "named", "public"),
    [
        ("a", "text", "prompt"),
        ("a", "prompt", "prompt"),
        (["a", "b"], "text", "prompt[0]"),
        ([1, 2], "tokens.ids[1]", "prompt[1]"),
        ([[1, 2]], "tokens.ids[1]", "prompt[0][1]"),
        ([[1, 2]], "tokens", "prompt[0]"),
        ("a", "sampling.top_logprobs", "logprobs"),
        ("a", "sampling.max_tokens", "max_tokens"),
    ],
)
async def test_errors_of_the_service_name_the_callers_field(
    llm_gateway: Gateway, llm: FakeLlm, prompt: Any, named: str, public: str
) -> None:
    llm.fails(invalid(named, f"{named} is odd"))
    response = await complete(llm_gateway, prompt=prompt)
    assert response.json()["error"]["param"] == public
    assert response.json()["error"]["message"] == f"{public} is odd"
