"""Streams of events: what fails within, silence, clients that leave, slow clients."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, ServiceError
from tests.bad_requests import connected
from tests.integration.gateway.chat_bodies import ASKED, chat, complete, events, raw_request
from tests.integration.gateway.fake_llm import STOP, USAGE, FakeLlm
from tests.integration.gateway.gateway import Gateway, running

ENDING = (pb.ChatResponse(finish_reason=STOP), pb.ChatResponse(usage=USAGE))


async def test_a_failure_within_ends_the_stream_with_an_error_event(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), ServiceError(Kind.UNAVAILABLE, "the engine died"))
    response = await chat(llm_gateway, stream=True)
    assert response.status_code == 200
    *_, last, nothing = response.text.split("\n\n")
    assert nothing == ""
    assert json.loads(last.removeprefix("data: ")) == {
        "error": {
            "object": "error",
            "message": "the engine died",
            "type": "service_unavailable_error",
            "param": None,
            "code": None,
        }
    }
    assert "Hello" in response.text
    assert "[DONE]" not in response.text
    llm.script = FakeLlm.script
    assert events(await chat(llm_gateway, stream=True))


async def test_a_service_that_stops_within_ends_the_stream_with_an_error_event() -> None:
    async with AsyncExitStack() as life:
        llm = await life.enter_async_context(FakeLlm().running())
        llm.says(pb.ChatResponse(text="Hello"), llm.hang)
        async with running(llm_addresses=llm.address) as gateway:
            stream = asyncio.create_task(chat(gateway, stream=True))
            await llm.entered.wait()
            await life.aclose()
            text = (await stream).text
            assert '"error"' in text
            assert "[DONE]" not in text


async def test_an_unexpected_failure_within_tells_nothing(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), RuntimeError("secret"))
    response = await chat(llm_gateway, stream=True)
    assert "secret" not in response.text
    assert "internal error" in response.text


async def test_silence_is_filled_with_comments_until_the_first_delta(llm: FakeLlm) -> None:
    llm.says(llm.hang, pb.ChatResponse(text="Hello"), *ENDING)
    async with (
        running(llm_addresses=llm.address, stream_keep_alive_seconds=0.05) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        writer.write(raw_request(stream=True))
        await reader.readuntil(b": keep-alive\n\n")
        await reader.readuntil(b": keep-alive\n\n")
        llm.release.set()
        assert b'"Hello"' in await reader.readuntil(b"[DONE]\n\n")


async def test_silence_within_is_filled_too(llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), llm.hang, *ENDING)
    async with (
        running(llm_addresses=llm.address, stream_keep_alive_seconds=0.05) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        writer.write(raw_request(stream=True))
        assert b'"Hello"' in await reader.readuntil(b": keep-alive\n\n")
        llm.release.set()
        await reader.readuntil(b"[DONE]\n\n")


async def test_an_error_after_silence_is_an_event(llm: FakeLlm) -> None:
    llm.says(llm.hang, ServiceError(Kind.OVERLOADED, "queue full", retry_after=1))
    async with (
        running(llm_addresses=llm.address, stream_keep_alive_seconds=0.05) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        writer.write(raw_request(stream=True))
        await reader.readuntil(b": keep-alive\n\n")
        llm.release.set()
        assert b"rate_limit_error" in await reader.readuntil(b"}}\n\n")


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_cancels_the_call(
    llm_gateway: Gateway, llm: FakeLlm, path: str, stream: bool, begun: bool
) -> None:
    llm.script = lambda response, _: [*([response(text="Hello")] if begun else []), llm.hang]
    async with connected(llm_gateway.http_port) as (reader, writer):
        writer.write(raw_request(path, stream=stream))
        await llm.entered.wait()
        if begun and stream:
            await reader.readuntil(b"Hello")
    await asyncio.wait_for(llm.idle.wait(), 10)
    assert llm.running_calls == 0


async def test_a_hundred_clients_that_leave(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), llm.hang)

    async def leave() -> None:
        async with connected(llm_gateway.http_port) as (reader, writer):
            writer.write(raw_request(stream=True))
            await reader.readuntil(b"Hello")

    await asyncio.gather(*(leave() for _ in range(100)))
    await asyncio.wait_for(llm.idle.wait(), 10)
    assert llm.running_calls == 0
    assert not [task for task in asyncio.all_tasks() if "Pieces" in repr(task)]


async def test_a_deadline_within_is_an_error_event(llm_gateway: Gateway, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), llm.hang)
    llm_gateway.http.headers["x-flotilla-timeout-ms"] = "300"
    assert "timeout_error" in (await chat(llm_gateway, stream=True)).text
    await asyncio.wait_for(llm.idle.wait(), 10)


async def test_a_client_that_reads_slowly_holds_the_service_back(llm_gateway: Gateway, llm: FakeLlm) -> None:
    sent = [0]

    async def count() -> None:
        sent[0] += 1

    llm.script = lambda response, _: [step for _ in range(1000) for step in (response(text="x" * 100_000), count)]
    async with connected(llm_gateway.http_port) as (reader, writer):
        writer.write(raw_request(stream=True))
        await reader.readuntil(b"xxxx")
        before = -1
        while sent[0] != before:  # until it stands still
            before = sent[0]
            await asyncio.sleep(0.2)
        assert sent[0] < 1000
    await asyncio.wait_for(llm.idle.wait(), 10)


async def test_one_failing_prompt_ends_the_others(llm_gateway: Gateway, llm: FakeLlm) -> None:
    def script(response: Any, request: Any) -> list[Any]:
        error = ServiceError(Kind.INVALID_ARGUMENT, "text is odd", field="text")
        return [error] if request.text == "bad" else [llm.hang]

    llm.script = script
    response = await complete(llm_gateway, prompt=["good", "bad", "good"])
    assert (response.status_code, response.json()["error"]["message"]) == (400, "prompt[1] is odd")
    await asyncio.wait_for(llm.idle.wait(), 10)
