"""POST /v1/responses: what reaches the service, the shape of the answer, what is refused."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, ServiceError, invalid
from tests.bad_requests import JSON, assert_refused
from tests.integration.gateway.fake_llm import LENGTH, MODEL, STOP, USAGE, FakeLlm, likely
from tests.integration.gateway.gateway import Gateway, running
from tests.integration.gateway.key_files import Keys, bearer
from tests.integration.gateway.response_bodies import (
    DOCUMENT,
    LOGPROBS,
    PATH,
    SCHEMA,
    TEXT_AND_CALLS,
    TOOL,
    respond,
    without_ids,
)

CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "blue"}
SAID = {"role": "user", "content": "hi"}


async def test_an_answer(llm_gateway: Gateway) -> None:
    body = (await respond(llm_gateway)).json()
    assert body["id"].startswith("resp_")
    assert body["output"][0]["id"].startswith("msg_")
    assert body["completed_at"] >= body["created_at"] > 1_600_000_000
    assert without_ids(body) == {
        "object": "response",
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": MODEL,
        "output": [
            {
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Hello wörld", "annotations": [], "logprobs": []}],
            }
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": None,
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 8,
        },
        "user": None,
    }


async def test_the_limit_of_tokens_makes_an_answer_incomplete(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hel"), pb.ChatResponse(finish_reason=LENGTH), pb.ChatResponse(usage=USAGE))
    body = (await respond(llm_gateway, max_output_tokens=1)).json()
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (body["output"][0]["status"], body["completed_at"]) == ("incomplete", None)
    assert body["usage"]["output_tokens"] == 3


async def test_an_empty_answer_is_a_message_without_text(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(finish_reason=STOP), pb.ChatResponse(usage=USAGE))
    (item,) = (await respond(llm_gateway)).json()["output"]
    assert item["content"][0]["text"] == ""


async def test_text_and_calls(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(*TEXT_AND_CALLS)
    body = (await respond(llm_gateway, tools=[TOOL])).json()
    text, first, second = body["output"]
    assert (body["status"], text["content"][0]["text"]) == ("completed", "I look.")
    assert first["id"].startswith("fc_")
    assert without_ids([first, second]) == [
        {**CALL, "arguments": '{"at": "sea"}', "status": "completed"},
        {**CALL, "call_id": "c2", "name": "stop", "status": "completed"},
    ]


async def test_logprobs(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(
        pb.ChatResponse(text="Hi", logprobs=[likely("Hi", -0.5, ("Ho", -1.5))]),
        pb.ChatResponse(finish_reason=STOP),
        pb.ChatResponse(usage=USAGE),
    )
    body = (await respond(llm_gateway, include=[LOGPROBS], top_logprobs=1)).json()
    (position,) = body["output"][0]["content"][0]["logprobs"]
    assert (position["token"], position["logprob"], position["bytes"]) == ("Hi", -0.5, [72, 105])
    assert position["top_logprobs"] == [{"token": "Ho", "logprob": -1.5, "bytes": [72, 111]}]
    assert (llm.request.sampling.logprobs, llm.request.sampling.top_logprobs) == (True, 1)
    assert body["top_logprobs"] == 1


async def test_every_parameter_reaches_the_service(llm_gateway: Gateway, llm: FakeLlm) -> None:
    given: dict[str, Any] = {"max_output_tokens": 7, "temperature": 0, "top_p": 0.5, "parallel_tool_calls": False}
    additions: dict[str, Any] = {"seed": 3, "stop": "a", "top_k": 4, "nvext": {"min_p": 0.25}, "logit_bias": {"3": 2.5}}
    echoed = {"instructions": "be brief", "safety_identifier": "me", "metadata": {"a": "é"}, "prompt_cache_key": "k"}
    body = (await respond(llm_gateway, **given, **additions, **echoed)).json()
    assert llm.request == pb.ChatRequest(
        model=MODEL,
        messages=[pb.Message(role=pb.ROLE_SYSTEM, content="be brief"), pb.Message(role=pb.ROLE_USER, content="hi")],
        sampling=pb.Sampling(
            max_tokens=7, temperature=0, top_p=0.5, seed=3, stop=["a"], top_k=4, min_p=0.25, logit_bias={3: 2.5}
        ),
        parallel_tool_calls=False,
        user="me",
    )
    expected = {**given, **echoed}
    assert {name: body[name] for name in expected} == expected


async def test_what_is_not_given_is_not_sent(llm_gateway: Gateway, llm: FakeLlm) -> None:
    plain = pb.ChatRequest(model=MODEL, messages=[pb.Message(role=pb.ROLE_USER, content="hi")], sampling=pb.Sampling())
    await respond(llm_gateway)
    assert llm.request == plain
    description = (await llm_gateway.http.get("/openapi.json")).json()
    fields = description["components"]["schemas"]["ResponsesRequest"]["properties"].keys() - {"model", "input"}
    assert (await respond(llm_gateway, **dict.fromkeys([*fields, "reasoning", "conversation"]))).status_code == 200
    assert llm.request == plain


async def test_what_has_no_effect_is_accepted(llm_gateway: Gateway) -> None:
    harmless: dict[str, Any] = {
        "store": False,
        "background": False,
        "truncation": "disabled",
        "service_tier": "auto",
        "prompt_cache_retention": "in_memory",
        "include": [],
        "text": {"format": {"type": "text"}, "verbosity": None},
        "stream": True,
        "stream_options": {"include_obfuscation": False},
    }
    assert (await respond(llm_gateway, **harmless)).status_code == 200


async def test_a_conversation_with_every_kind_of_item(llm_gateway: Gateway, llm: FakeLlm) -> None:
    answer = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "I", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "look."},
        ],
    }
    items = [
        {"role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
        answer,
        {**CALL, "id": "fc_1", "status": "completed"},
        {**CALL, "call_id": "c2"},
        RESULT,
        {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "green"}]},
        {**CALL, "call_id": "c3"},
        {**RESULT, "call_id": "c3"},
    ]
    assert (await respond(llm_gateway, instructions="first", input=items)).status_code == 200
    calls = [pb.ToolCall(id=f"c{i}", name="look", arguments="{}") for i in (1, 2, 3)]
    assert list(llm.request.messages) == [
        pb.Message(role=pb.ROLE_SYSTEM, content="first"),
        pb.Message(role=pb.ROLE_SYSTEM, content="be brief"),
        pb.Message(role=pb.ROLE_USER, content="one"),
        pb.Message(role=pb.ROLE_ASSISTANT, content="I\nlook.", tool_calls=calls[:2]),
        pb.Message(role=pb.ROLE_TOOL, content="blue", tool_call_id="c1"),
        pb.Message(role=pb.ROLE_TOOL, content="green", tool_call_id="c2"),
        pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=calls[2:]),
        pb.Message(role=pb.ROLE_TOOL, content="blue", tool_call_id="c3"),
    ]


async def test_an_answer_goes_back_as_it_came(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(*TEXT_AND_CALLS)
    output = (await respond(llm_gateway, tools=[TOOL])).json()["output"]
    results = [RESULT, {**RESULT, "call_id": "c2"}]
    assert (await respond(llm_gateway, tools=[TOOL], input=[SAID, *output, *results])).status_code == 200
    said = llm.request.messages[1]
    assert (said.content, [call.id for call in said.tool_calls]) == ("I look.", ["c1", "c2"])


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("none", pb.ToolChoice(mode=pb.TOOL_MODE_NONE)),
        ("auto", pb.ToolChoice(mode=pb.TOOL_MODE_AUTO)),
        ("required", pb.ToolChoice(mode=pb.TOOL_MODE_REQUIRED)),
        ({"type": "function", "name": "look"}, pb.ToolChoice(mode=pb.TOOL_MODE_NAMED, name="look")),
    ],
)
async def test_tools_and_their_choice(llm_gateway: Gateway, llm: FakeLlm, given: Any, sent: pb.ToolChoice) -> None:
    tools = [TOOL, {"type": "function", "name": "stop"}]
    body = (await respond(llm_gateway, tools=tools, tool_choice=given)).json()
    assert list(llm.request.tools) == [
        pb.Tool(name="look", description="Looks", parameters=DOCUMENT),
        pb.Tool(name="stop"),
    ]
    assert llm.request.tool_choice == sent
    assert body["tool_choice"] == given
    assert body["tools"] == [TOOL, {**dict.fromkeys(TOOL), "type": "function", "name": "stop"}]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"type": "json_object"}, pb.OutputFormat(json_object=True)),
        (
            {"type": "json_schema", "name": "x", "description": None, "schema": SCHEMA, "strict": True},
            pb.OutputFormat(json_schema=DOCUMENT),
        ),
    ],
)
async def test_constraints(llm_gateway: Gateway, llm: FakeLlm, given: dict[str, Any], sent: pb.OutputFormat) -> None:
    body = (await respond(llm_gateway, text={"format": given})).json()
    assert llm.request.format == sent
    assert body["text"]["format"] == given
    refused = await respond(llm_gateway, text={"format": given}, guided_regex="a")
    assert_refused(refused, 400, "guided_regex", "text.format")


BAD_VALUES: list[tuple[dict[str, Any], int, str]] = [
    ({"previous_response_id": "resp_1"}, 400, "previous_response_id"),
    ({"conversation": "conv_1"}, 400, "conversation"),
    ({"conversation": {"id": "conv_1"}}, 400, "conversation"),
    ({"store": True}, 400, "store"),
    ({"background": True}, 400, "background"),
    ({"prompt": {"id": "p"}}, 400, "prompt"),
    ({"reasoning": {"effort": "low"}}, 400, "reasoning"),
    ({"truncation": "auto"}, 400, "truncation"),
    ({"max_tool_calls": 1}, 400, "max_tool_calls"),
    ({"tools": [{"type": "web_search"}]}, 400, "tools[0].type"),
    ({"tools": [TOOL, {"type": "mcp", "server_label": "x"}]}, 400, "tools[1].type"),
    ({"tools": [{"type": "function", "function": {"name": "look"}}]}, 400, "tools[0].name"),
    ({"tools": [{**TOOL, "parameters": "{}"}]}, 400, "tools[0].parameters"),
    ({"tools": [TOOL] * 129}, 400, "tools"),
    ({"tool_choice": {"type": "function", "function": {"name": "look"}}}, 400, "tool_choice"),
    ({"tool_choice": {"type": "web_search_preview"}}, 400, "tool_choice"),
    ({"include": ["reasoning.encrypted_content"]}, 400, "include[0]"),
    ({"top_logprobs": 1}, 400, "top_logprobs"),
    ({"include": [LOGPROBS], "top_logprobs": 21}, 400, "top_logprobs"),
    ({"max_output_tokens": 0}, 400, "max_output_tokens"),
    ({"temperature": 3}, 400, "temperature"),
    ({"text": {"verbosity": "low"}}, 400, "text.verbosity"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, 400, "text.format"),
    ({"text": {"format": {"type": "json_schema", "json_schema": {}}}}, 400, "text.format.json_schema"),
    ({"metadata": {"a": 1}}, 400, "metadata.a"),
    ({"metadata": {str(i): "" for i in range(17)}}, 400, "metadata"),
    ({"metadata": {"a": "x" * 513}}, 400, "metadata"),
    ({"messages": [SAID]}, 400, "messages"),
    ({"max_tokens": 1}, 400, "max_tokens"),
    ({"n": 2}, 400, "n"),
    ({"response_format": {"type": "text"}}, 400, "response_format"),
    ({"stream_options": {}}, 400, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": True}}, 400, "stream_options.include_usage"),
    ({"mood": 1}, 400, "mood"),
    ({"model": "nope"}, 404, "model"),
    ({"input": None}, 400, "input"),
    ({"input": 5}, 400, "input"),
    ({"input": []}, 400, "input"),
    ({"input": [SAID] * 2049}, 400, "input"),
    ({"input": ["hi"]}, 400, "input[0]"),
    ({"input": [SAID, {"role": "robot", "content": "x"}]}, 400, "input[1].role"),
    ({"input": [SAID, {"role": "tool", "content": "x"}]}, 400, "input[1].role"),
    ({"input": [{"role": "user"}]}, 400, "input[0].content"),
    ({"input": [{**SAID, "mood": "x"}]}, 400, "input[0].mood"),
    ({"input": [{**SAID, "content": [{"type": "text", "text": "x"}]}]}, 400, "input[0].content[0].type"),
    ({"input": [{**SAID, "content": [{"type": "input_image", "image_url": "x"}]}]}, 400, "input[0].content[0]"),
    ({"input": [{**SAID, "content": [{"type": "input_text"}]}]}, 400, "input[0].content[0]"),
    ({"input": [SAID, {"type": "reasoning", "id": "r", "summary": []}]}, 400, "input[1]"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "input[0]"),
    ({"input": [{"type": "web_search_call", "id": "x"}]}, 400, "input[0]"),
    ({"input": [{"type": ["message"], "role": "user", "content": ""}]}, 400, "input[0]"),
    ({"input": [{"type": "function_call", "name": "look", "arguments": "{}"}]}, 400, "input[0].call_id"),
    ({"input": [{"type": "function_call_output", "call_id": "x"}]}, 400, "input[0].output"),
]


@pytest.fixture(scope="module")
async def language() -> AsyncIterator[Gateway]:
    async with FakeLlm().running() as llm, running(llm_addresses=llm.address) as gateway:
        yield gateway


@pytest.mark.parametrize(("changes", "status", "param"), BAD_VALUES)
async def test_a_refusal_names_the_field(language: Gateway, changes: dict[str, Any], status: int, param: str) -> None:
    assert_refused(await respond(language, **changes), status, param)


async def test_lone_surrogates_are_refused(llm_gateway: Gateway) -> None:
    for changes, param in (
        ({"input": "\ud800"}, "input"),
        ({"input": [{"role": "user", "content": "\ud800"}]}, "input[0].content"),
        ({"metadata": {"a": "\ud800"}}, "metadata.a"),
        ({"instructions": "\ud800"}, "instructions"),
    ):
        content = json.dumps({"model": MODEL, "input": "hi", **changes})
        assert_refused(await llm_gateway.http.post(PATH, content=content, headers=JSON), 400, param, "surrogate")


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("messages", "input"),
        ("messages[0].content", "instructions"),
        ("messages[1].content", "input[0].content"),
        ("messages[2].content", "input[1].content"),
        ("messages[2].tool_calls[0].arguments", "input[2].arguments"),
        ("messages[2].tool_calls[1].id", "input[3].call_id"),
        ("messages[3].tool_call_id", "input[4].call_id"),
        ("messages[3].content", "input[4].output"),
        ("messages[4]", "input[5]"),
        ("sampling.max_tokens", "max_output_tokens"),
        ("sampling.temperature", "temperature"),
        ("tools[0].parameters", "tools[0].parameters"),
        ("tool_choice.mode", "tool_choice"),
        ("tool_choice.name", "tool_choice.name"),
        ("format", "text.format"),
    ],
)
async def test_errors_of_the_service_name_the_callers_field(
    llm_gateway: Gateway, llm: FakeLlm, field: str, param: str
) -> None:
    llm.fails(invalid(field, f"{field} is odd"))
    items = [SAID, {"role": "assistant", "content": "I look"}, CALL, {**CALL, "call_id": "c2"}, RESULT, SAID]
    response = await respond(llm_gateway, instructions="first", input=items)
    assert_refused(response, 400, param, f"{param} is odd")


async def test_errors_about_a_constraint_name_it(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.fails(invalid("format.json_schema", "format.json_schema is odd"))
    schema = {"type": "json_schema", "name": "x", "schema": SCHEMA}
    assert_refused(await respond(llm_gateway, text={"format": schema}), 400, "text.format.schema")
    assert_refused(await respond(llm_gateway, guided_json=SCHEMA), 400, "guided_json")
    llm.fails(invalid("messages[0].content", "messages[0].content is odd"))
    assert_refused(await respond(llm_gateway), 400, "input")


async def test_overload_says_when_to_come_back(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.fails(ServiceError(Kind.OVERLOADED, "queue full", retry_after=2))
    response = await respond(llm_gateway, stream=True)
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")


async def test_keys_and_limits_hold(tmp_path: Path, llm: FakeLlm) -> None:
    keys = Keys(tmp_path / "keys.json")
    secret = keys.add(models=[MODEL], limits={"tokens_per_minute": 1000})
    elsewhere = keys.add(models=["other"])
    async with running(llm_addresses=llm.address, keys_file=str(keys.path)) as gateway:
        assert (await respond(gateway)).status_code == 401
        gateway.http.headers.update(bearer(elsewhere))
        refused = await respond(gateway)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
        gateway.http.headers.update(bearer(secret))
        response = await respond(gateway, max_output_tokens=300)
        assert response.headers["x-ratelimit-remaining-tokens"] == "992"
        assert (await respond(gateway, max_output_tokens=2000)).status_code == 429


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
    ],
)
async def test_nothing_is_stored(llm_gateway: Gateway, method: str, path: str) -> None:
    response = await llm_gateway.http.request(method, path)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (404, "response_id", "response_not_found")
    assert error["message"] == "there is no response 'resp_1': nothing is stored"
