"""POST /v1/chat/completions: what reaches the service, and the shapes of the answer."""

from typing import Any

import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, ServiceError, invalid
from tests.bad_requests import JSON, assert_refused
from tests.integration.gateway.chat_bodies import USER, chat, choices, events
from tests.integration.gateway.fake_llm import MODEL, STOP, TOOL_CALLS, USAGE, FakeLlm, likely
from tests.integration.gateway.gateway import Gateway, running

END = pb.ChatResponse(usage=USAGE)
SCHEMA = {"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"enum": ["é", 1.5]}}}
DOCUMENT = '{"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"enum": ["é", 1.5]}}}'
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks", "parameters": SCHEMA, "strict": True}}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
TOOL_PIECES = (
    pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, id="c1", name="look")]),
    pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, arguments='{"at": ')]),
    pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, arguments='"sea"}')]),
    pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=1, id="c2", name="stop", arguments="{}")]),
    pb.ChatResponse(finish_reason=TOOL_CALLS),
    END,
)


async def test_an_answer(llm_gateway: Gateway) -> None:
    body = (await chat(llm_gateway)).json()
    assert body.pop("id").startswith("chatcmpl-")
    assert body.pop("created") > 1_600_000_000
    assert body == {
        "object": "chat.completion",
        "model": MODEL,
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello wörld", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }


async def test_a_stream_byte_for_byte(llm_gateway: Gateway) -> None:
    response = await chat(llm_gateway, stream=True, stream_options={"include_usage": True})
    first = events(response)[0]
    start = (
        f'data: {{"id":"{first["id"]}","object":"chat.completion.chunk","created":{first["created"]},'
        f'"model":"{MODEL}","system_fingerprint":null,"choices":['
    )
    deltas = [
        ('{"role":"assistant","content":"","refusal":null}', "null"),
        ('{"content":"Hello"}', "null"),
        ('{"content":" wörld"}', "null"),
        ("{}", '"stop"'),
    ]
    chunks = [
        f'{start}{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}],"usage":null}}\n\n'
        for delta, reason in deltas
    ]
    usage = (
        '"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2}}'
    )
    assert response.text == "".join(chunks) + f"{start}],{usage}}}\n\ndata: [DONE]\n\n"
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"


async def test_usage_only_where_it_is_asked_for(llm_gateway: Gateway) -> None:
    assert not any("usage" in event for event in events(await chat(llm_gateway, stream=True)))


async def test_several_answers(llm_gateway: Gateway) -> None:
    whole = (await chat(llm_gateway, n=3)).json()["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in whole] == [
        (i, "Hello wörld") for i in range(3)
    ]
    streamed = choices(await chat(llm_gateway, n=3, stream=True))
    for i in range(3):
        own = [choice for choice in streamed if choice["index"] == i]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(choice["delta"].get("content", "") for choice in own) == "Hello wörld"
        assert own[-1]["finish_reason"] == "stop"


async def test_tool_calls(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(*TOOL_PIECES)
    (choice,) = (await chat(llm_gateway, tools=[TOOL])).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}},
            {"id": "c2", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
        ],
    }


async def test_streamed_tool_calls(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(*TOOL_PIECES)
    streamed = choices(await chat(llm_gateway, tools=[TOOL], stream=True))
    assert [choice["delta"] for choice in streamed] == [
        {"role": "assistant", "content": None, "refusal": None},
        {
            "tool_calls": [
                {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}},
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"at": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"sea"}'}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "stop", "arguments": "{}"}}]},
        {},
    ]
    assert streamed[-1]["finish_reason"] == "tool_calls"


async def test_logprobs(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(
        pb.ChatResponse(logprobs=[likely(b"\xc3", -1.5, ("e", -2))]),  # half a character: no text yet
        pb.ChatResponse(text="é", logprobs=[likely(b"\xa9", float("-inf"))]),
        pb.ChatResponse(finish_reason=STOP),
        END,
    )
    content = [
        {
            "token": "\\xc3",
            "logprob": -1.5,
            "bytes": [195],
            "top_logprobs": [{"token": "e", "logprob": -2.0, "bytes": [101]}],
        },
        {"token": "\\xa9", "logprob": -9999.0, "bytes": [169], "top_logprobs": []},
    ]
    (whole,) = (await chat(llm_gateway, logprobs=True, top_logprobs=1)).json()["choices"]
    assert whole["logprobs"] == {"content": content, "refusal": None}
    assert (llm.request.sampling.logprobs, llm.request.sampling.top_logprobs) == (True, 1)
    streamed = choices(await chat(llm_gateway, logprobs=True, top_logprobs=1, stream=True))
    assert [choice["delta"].get("content") for choice in streamed] == ["", "", "é", None]
    assert [choice["logprobs"] and choice["logprobs"]["content"] for choice in streamed] == [
        None,
        content[:1],
        content[1:],
        None,
    ]


async def test_every_parameter_reaches_the_service(llm_gateway: Gateway, llm: FakeLlm) -> None:
    await chat(
        llm_gateway,
        max_completion_tokens=7,
        temperature=0,
        top_p=0.5,
        n=2,
        stop=["a", "b"],
        seed=-1,
        frequency_penalty=1,
        presence_penalty=-1.5,
        logit_bias={"17": -100, "3": 2.5},
        top_k=-1,
        min_p=0.25,
        repetition_penalty=1.5,
        min_tokens=2,
        ignore_eos=True,
        parallel_tool_calls=False,
        user="me",
    )
    assert llm.request == pb.ChatRequest(
        model=MODEL,
        messages=[pb.Message(role=pb.ROLE_USER, content="hi")],
        sampling=pb.Sampling(
            max_tokens=7,
            temperature=0,
            top_p=0.5,
            n=2,
            stop=["a", "b"],
            seed=2**64 - 1,
            frequency_penalty=1,
            presence_penalty=-1.5,
            logit_bias={17: -100, 3: 2.5},
            top_k=0,
            min_p=0.25,
            repetition_penalty=1.5,
            min_tokens=2,
            ignore_eos=True,
        ),
        parallel_tool_calls=False,
        user="me",
    )


async def test_what_is_not_given_is_not_sent(llm_gateway: Gateway, llm: FakeLlm) -> None:
    plain = pb.ChatRequest(model=MODEL, messages=[pb.Message(role=pb.ROLE_USER, content="hi")], sampling=pb.Sampling())
    await chat(llm_gateway)
    assert llm.request == plain
    description = (await llm_gateway.http.get("/openapi.json")).json()
    fields = description["components"]["schemas"]["ChatRequest"]["properties"].keys() - {"model", "messages"}
    await chat(llm_gateway, **dict.fromkeys([*fields, "functions", "audio", "reasoning_effort"]))
    assert llm.request == plain


async def test_what_has_no_effect_is_accepted(llm_gateway: Gateway) -> None:
    harmless: dict[str, Any] = {
        "store": False,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "modalities": ["text"],
        "prompt_cache_key": "k",
        "response_format": {"type": "text"},
        "stream": True,
        "stream_options": {"include_usage": False, "include_obfuscation": False},
    }
    assert (await chat(llm_gateway, **harmless)).status_code == 200


async def test_a_conversation_with_every_kind_of_message(llm_gateway: Gateway, llm: FakeLlm) -> None:
    answer = {
        "role": "assistant",
        "content": None,
        "tool_calls": CALLS,
        "refusal": None,
        "annotations": [],
        "audio": None,
    }
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "name": "me"},
        answer,
        {"role": "tool", "content": "blue", "tool_call_id": "c1"},
    ]
    assert (await chat(llm_gateway, messages=messages)).status_code == 200
    assert list(llm.request.messages) == [
        pb.Message(role=pb.ROLE_SYSTEM, content="be brief"),
        pb.Message(role=pb.ROLE_USER, content="one\ntwo", name="me"),
        pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(id="c1", name="look", arguments="{}")]),
        pb.Message(role=pb.ROLE_TOOL, content="blue", tool_call_id="c1"),
    ]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("none", pb.ToolChoice(mode=pb.TOOL_MODE_NONE)),
        ("auto", pb.ToolChoice(mode=pb.TOOL_MODE_AUTO)),
        ("required", pb.ToolChoice(mode=pb.TOOL_MODE_REQUIRED)),
        ({"type": "function", "function": {"name": "look"}}, pb.ToolChoice(mode=pb.TOOL_MODE_NAMED, name="look")),
    ],
)
async def test_tools_and_their_choice(llm_gateway: Gateway, llm: FakeLlm, given: Any, sent: pb.ToolChoice) -> None:
    await chat(llm_gateway, tools=[TOOL, {"type": "function", "function": {"name": "stop"}}], tool_choice=given)
    assert list(llm.request.tools) == [
        pb.Tool(name="look", description="Looks", parameters=DOCUMENT),
        pb.Tool(name="stop"),
    ]
    assert llm.request.tool_choice == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"response_format": {"type": "json_object"}}, pb.OutputFormat(json_object=True)),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
                }
            },
            pb.OutputFormat(json_schema=DOCUMENT),
        ),
        ({"guided_json": SCHEMA}, pb.OutputFormat(json_schema=DOCUMENT)),
        ({"guided_json": DOCUMENT}, pb.OutputFormat(json_schema=DOCUMENT)),
        ({"guided_regex": "a+"}, pb.OutputFormat(regex="a+")),
        ({"guided_choice": ["a", "b"]}, pb.OutputFormat(choice=pb.Choice(options=["a", "b"]))),
        ({"guided_grammar": 'root ::= "a"'}, pb.OutputFormat(grammar='root ::= "a"')),
    ],
)
async def test_constraints(llm_gateway: Gateway, llm: FakeLlm, given: dict[str, Any], sent: pb.OutputFormat) -> None:
    await chat(llm_gateway, **given)
    assert llm.request.format == sent
    if "response_format" not in given:
        await chat(llm_gateway, nvext=given)
        assert llm.request.format == sent


BAD_VALUES: list[tuple[dict[str, Any], int, str]] = [
    ({"messages": []}, 400, "messages"),
    ({"messages": None}, 400, "messages"),
    ({"messages": "hi"}, 400, "messages"),
    ({"messages": [USER] * 2049}, 400, "messages"),
    ({"messages": ["hi"]}, 400, "messages[0]"),
    ({"messages": [{"role": "user"}]}, 400, "messages[0]"),
    ({"messages": [USER, {"role": "robot", "content": "x"}]}, 400, "messages[1].role"),
    ({"messages": [{"role": "user", "content": 5}]}, 400, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "x", "mood": "y"}]}, 400, "messages[0].mood"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, 400, "messages[0].content[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0]"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": CALLS}]}, 400, "messages[0]"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_tokens": -1}, 400, "max_tokens"),
    ({"max_tokens": 2**40}, 400, "max_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, 400, "max_tokens"),
    ({"temperature": -1}, 400, "temperature"),
    ({"temperature": "1"}, 400, "temperature"),
    ({"top_p": 0}, 400, "top_p"),
    ({"n": 9}, 400, "n"),
    ({"n": True}, 400, "n"),
    ({"stop": 5}, 400, "stop"),
    ({"stop": ["a", None]}, 400, "stop[1]"),
    ({"seed": 2**64}, 400, "seed"),
    ({"logit_bias": {"a": 1}}, 400, "logit_bias"),
    ({"logit_bias": {"1": 101}}, 400, "logit_bias.1"),
    ({"top_logprobs": 2}, 400, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, 400, "stream_options.include_obfuscation"),
    ({"tools": [{"type": "custom", "custom": {}}]}, 400, "tools[0].type"),
    ({"tools": [TOOL] * 129}, 400, "tools"),
    (
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]},
        400,
        "tools[0].function.parameters",
    ),
    ({"tool_choice": "look"}, 400, "tool_choice"),
    ({"tool_choice": {"type": "allowed_tools"}}, 400, "tool_choice"),
    ({"response_format": {"type": "xml"}}, 400, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, 400, "response_format"),
    ({"guided_json": []}, 400, "guided_json"),
    ({"guided_json": {}, "response_format": {"type": "json_object"}}, 400, "guided_json"),
    ({"guided_regex": "a", "nvext": {"guided_choice": ["a"]}}, 400, "guided_regex"),
    ({"top_k": 5, "nvext": {"top_k": 5}}, 400, "nvext.top_k"),
    ({"nvext": {"speed": 1}}, 400, "nvext.speed"),
    ({"store": True}, 400, "store"),
    ({"modalities": ["text", "audio"]}, 400, "modalities[1]"),
    ({"service_tier": "flex"}, 400, "service_tier"),
    ({"functions": []}, 400, "functions"),
    ({"function_call": "auto"}, 400, "function_call"),
    ({"audio": {}}, 400, "audio"),
    ({"prediction": {}}, 400, "prediction"),
    ({"web_search_options": {}}, 400, "web_search_options"),
    ({"reasoning_effort": "low"}, 400, "reasoning_effort"),
    ({"verbosity": "low"}, 400, "verbosity"),
    ({"mood": "good"}, 400, "mood"),
    ({"model": "nope"}, 404, "model"),
]


@pytest.mark.parametrize(("change", "status", "param"), BAD_VALUES)
async def test_bad_values_are_refused_by_name(
    llm_gateway: Gateway, change: dict[str, Any], status: int, param: str
) -> None:
    assert_refused(await chat(llm_gateway, **change), status, param)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "data:,"}}, "images"),
        ({"type": "input_audio", "input_audio": {}}, "audio"),
        ({"type": "file", "file": {}}, "files"),
    ],
)
async def test_parts_that_are_no_text(llm_gateway: Gateway, part: dict[str, Any], words: str) -> None:
    content = [{"type": "text", "text": "look"}, part]
    response = await chat(llm_gateway, messages=[{"role": "user", "content": content}])
    assert_refused(response, 400, "messages[0].content[1]", f"this model takes no {words}")


@pytest.mark.parametrize(
    ("raw", "param", "words"),
    [
        (b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', "messages[0].content", "surrogate"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}', None, "not UTF-8"),
        (b'{"model": "m", "messages": [], "stop": "\\udfff"}', "stop", "surrogate"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "a"}], "top_p": NaN}', "top_p", "finite"),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "a"}], "guided_json": {"a": NaN}}',
            "guided_json",
            "",
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "a"}], "guided_json": {"\\ud800": 1}}',
            "guided_json",
            "",
        ),
    ],
)
async def test_bodies_that_are_no_text(llm_gateway: Gateway, raw: bytes, param: str | None, words: str) -> None:
    assert_refused(await llm_gateway.http.post("/v1/chat/completions", content=raw, headers=JSON), 400, param, words)


@pytest.mark.parametrize(
    ("request_fields", "named", "public"),
    [
        ({"max_tokens": 9}, "sampling.max_tokens", "max_tokens"),
        ({"max_completion_tokens": 9}, "sampling.max_tokens", "max_completion_tokens"),
        ({"nvext": {"top_k": 9}}, "sampling.top_k", "nvext.top_k"),
        ({"stop": ["a"]}, "sampling.stop[0]", "stop[0]"),
        ({}, "messages[0].content", "messages[0].content"),
        ({}, "messages[1].tool_calls[0].arguments", "messages[1].tool_calls[0].function.arguments"),
        ({"tools": [TOOL]}, "tools[0].parameters", "tools[0].function.parameters"),
        ({"tools": [TOOL]}, "tool_choice.name", "tool_choice.function.name"),
        ({"tools": [TOOL]}, "tool_choice.mode", "tool_choice"),
        ({"guided_json": {}}, "format.json_schema", "guided_json"),
        ({"nvext": {"guided_json": {}}}, "format.json_schema", "nvext.guided_json"),
        ({"guided_choice": ["a"]}, "format.choice.options[0]", "guided_choice[0]"),
        ({"response_format": {"type": "json_object"}}, "format", "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
            "format.json_schema",
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_errors_of_the_service_name_the_callers_field(
    llm_gateway: Gateway, llm: FakeLlm, request_fields: dict[str, Any], named: str, public: str
) -> None:
    llm.fails(invalid(named, f"{named} is odd"))
    for stream in (False, True):
        response = await chat(llm_gateway, **request_fields, stream=stream)
        assert (response.status_code, response.json()["error"]["param"]) == (400, public)
        assert response.json()["error"]["message"] == f"{public} is odd"


async def test_a_prompt_too_long_keeps_its_code(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.fails(invalid("messages", "too long", code="context_length_exceeded"))
    assert (await chat(llm_gateway)).json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_overload_before_the_answer_is_429(llm_gateway: Gateway, llm: FakeLlm, stream: bool) -> None:
    llm.fails(ServiceError(Kind.OVERLOADED, "queue full", retry_after=1.5))
    response = await chat(llm_gateway, stream=stream)
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_was_not_started_is_made_again_elsewhere(stream: bool) -> None:
    async with (
        FakeLlm().running() as one,
        FakeLlm().running() as two,
        running(llm_addresses=f"{one.address},{two.address}") as gateway,
    ):
        one.fails(ServiceError(Kind.NOT_STARTED, "draining"))
        assert [(await chat(gateway, stream=stream)).status_code for _ in range(4)] == [200] * 4
        assert (len(one.requests), len(two.requests)) == (1, 4)


async def test_the_model_is_listed_with_its_context(llm_gateway: Gateway) -> None:
    (row,) = (await llm_gateway.http.get("/v1/models")).json()["data"]
    assert (row["id"], row["root"], row["max_model_len"]) == (MODEL, MODEL, 512)
