"""Streams of POST /v1/responses: the order of their events, and how they end."""

import asyncio
from typing import Any

import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, ServiceError
from tests.bad_requests import connected
from tests.integration.gateway.chat_bodies import raw_request
from tests.integration.gateway.fake_llm import LENGTH, STOP, USAGE, FakeLlm, likely
from tests.integration.gateway.gateway import Gateway, running
from tests.integration.gateway.response_bodies import (
    END,
    LOGPROBS,
    PATH,
    TEXT_AND_CALLS,
    TOOL,
    events,
    respond,
    without_ids,
)

ADDED = ["response.created", "response.in_progress", "response.output_item.added"]
TEXT_DONE = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
CALL_DONE = ["response.function_call_arguments.done", "response.output_item.done"]


def kinds(found: list[Any]) -> list[str]:
    """The types of events, several of a kind as one."""
    names = [event["type"] for event in found]
    return [name for name, before in zip(names, ["", *names], strict=False) if name != before]


async def test_the_events_of_a_text(llm_gateway: Gateway) -> None:
    response = await respond(llm_gateway, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response)
    assert kinds(found) == [
        *ADDED,
        "response.content_part.added",
        "response.output_text.delta",
        *TEXT_DONE,
        "response.completed",
    ]
    item = found[2]["item"]
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    full = {**empty, "text": "Hello wörld"}
    assert without_ids(item) == {"type": "message", "role": "assistant", "status": "in_progress", "content": []}
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    delta = {"type": "response.output_text.delta", **where, "logprobs": []}
    assert found[3:8] == [
        {"type": "response.content_part.added", "sequence_number": 3, **where, "part": empty},
        {**delta, "sequence_number": 4, "delta": "Hello"},
        {**delta, "sequence_number": 5, "delta": " wörld"},
        {
            "type": "response.output_text.done",
            "sequence_number": 6,
            **where,
            "text": "Hello wörld",
            "logprobs": [],
        },
        {"type": "response.content_part.done", "sequence_number": 7, **where, "part": full},
    ]
    assert found[8]["item"] == {**item, "status": "completed", "content": [full]}
    assert found[9]["response"]["output"] == [found[8]["item"]]
    for event in found[:2]:
        assert (event["response"]["status"], event["response"]["output"]) == ("in_progress", [])
        assert event["response"]["usage"] is None
    assert len({event["response"]["id"] for event in (*found[:2], found[9])}) == 1


async def test_the_events_of_text_and_calls(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(*TEXT_AND_CALLS)
    found = events(await respond(llm_gateway, tools=[TOOL], stream=True))
    call = ["response.output_item.added", "response.function_call_arguments.delta", *CALL_DONE]
    text = ["response.content_part.added", "response.output_text.delta", *TEXT_DONE]
    assert kinds(found) == [*ADDED, *text, *call, *call, "response.completed"]
    deltas = [event for event in found if event["type"] == "response.function_call_arguments.delta"]
    assert [(event["output_index"], event["delta"]) for event in deltas] == [(1, '{"at": '), (1, '"sea"}'), (2, "{}")]
    first, second = (event for event in found if event["type"] == "response.function_call_arguments.done")
    assert (first["arguments"], second["arguments"]) == ('{"at": "sea"}', "{}")
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert found[-1]["response"]["output"] == done


@pytest.mark.parametrize("script", [TEXT_AND_CALLS, TEXT_AND_CALLS[1:], (pb.ChatResponse(text="a"), *END), END])
async def test_a_stream_ends_with_the_whole_answer(llm_gateway: Gateway, llm: FakeLlm, script: Any) -> None:
    llm.says(*script)
    whole = (await respond(llm_gateway)).json()
    assert without_ids(events(await respond(llm_gateway, stream=True))[-1]["response"]) == without_ids(whole)


async def test_the_limit_of_tokens_ends_a_stream_as_incomplete(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hel"), pb.ChatResponse(finish_reason=LENGTH), pb.ChatResponse(usage=USAGE))
    *_, item, last = events(await respond(llm_gateway, stream=True))
    assert (item["type"], item["item"]["status"]) == ("response.output_item.done", "incomplete")
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["usage"]["total_tokens"] == 8


async def test_streamed_logprobs(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(
        pb.ChatResponse(logprobs=[likely(b"\xc3", -1.5)]),  # half a character: no text yet
        pb.ChatResponse(text="é", logprobs=[likely(b"\xa9", -1)]),
        pb.ChatResponse(finish_reason=STOP),
        pb.ChatResponse(usage=USAGE),
    )
    found = events(await respond(llm_gateway, include=[LOGPROBS], stream=True))
    deltas = [event for event in found if event["type"] == "response.output_text.delta"]
    assert [event["delta"] for event in deltas] == ["", "é"]
    (done,) = (event for event in found if event["type"] == "response.output_text.done")
    assert [position["token"] for position in done["logprobs"]] == ["\\xc3", "\\xa9"]
    assert done["logprobs"] == [position for event in deltas for position in event["logprobs"]]


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.UNAVAILABLE, "server_error"), (Kind.OVERLOADED, "rate_limit_exceeded")]
)
async def test_a_failure_within_ends_the_stream(llm_gateway: Gateway, llm: FakeLlm, kind: Kind, code: str) -> None:
    llm.says(pb.ChatResponse(text="Hello"), ServiceError(kind, "the engine died"))
    response = await respond(llm_gateway, stream=True)
    assert response.status_code == 200
    last = events(response)[-1]
    assert last["type"] == "response.failed"
    failed = last["response"]
    error = ServiceError(kind, "the engine died")
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": code, "message": "the engine died", "type": error.row.openai, "param": None}
    assert failed["output"][0]["status"] == "incomplete"
    assert failed["output"][0]["content"][0]["text"] == "Hello"


async def test_an_unexpected_failure_within_tells_nothing(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), RuntimeError("secret"))
    response = await respond(llm_gateway, stream=True)
    assert "secret" not in response.text
    assert "internal error" in events(response)[-1]["response"]["error"]["message"]


async def test_a_deadline_within_ends_the_stream(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), llm.hang)
    llm_gateway.http.headers["x-flotilla-timeout-ms"] = "300"
    assert events(await respond(llm_gateway, stream=True))[-1]["response"]["error"]["type"] == "timeout_error"
    await asyncio.wait_for(llm.idle.wait(), 10)


async def test_silence_is_filled_with_comments(llm: FakeLlm) -> None:
    llm.says(llm.hang, ServiceError(Kind.OVERLOADED, "queue full", retry_after=1))
    async with (
        running(llm_addresses=llm.address, stream_keep_alive_seconds=0.05) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        writer.write(raw_request(PATH, stream=True))
        assert b"event: response.created\n" in await reader.readuntil(b": keep-alive\n\n")
        llm.release.set()
        assert b"rate_limit_exceeded" in await reader.readuntil(b"}}\n\n")
