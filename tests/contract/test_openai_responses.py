"""The unmodified OpenAI SDK against /v1/responses."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest
from flotilla.llm.v1 import llm_pb2 as pb
from openai.types.responses import Response, ResponseStreamEvent

from services.common.errors import Kind, ServiceError
from tests.integration.gateway.fake_llm import LENGTH, MODEL, STOP, USAGE, FakeLlm, likely
from tests.integration.gateway.gateway import Gateway
from tests.integration.gateway.response_bodies import END, LOGPROBS, TEXT_AND_CALLS, events, respond

SAID = {"role": "user", "content": "hi"}
LOOK = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    "strict": True,
}
EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)


class Sight(pydantic.BaseModel):
    what: str
    how_many: int


@pytest.fixture
async def client(llm_gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{llm_gateway.http_port}/v1", api_key="none") as sdk:
        yield sdk


async def test_a_response(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model=MODEL, input="hi", instructions="be brief", metadata={"a": "b"})
    assert answer.output_text == "Hello wörld"
    assert (answer.status, answer.metadata) == ("completed", {"a": "b"})
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (5, 3, 8)
    assert answer.usage.input_tokens_details.cached_tokens == 2
    again: Any = [SAID, *answer.output, SAID]  # an answer goes back as it came
    assert (await client.responses.create(model=MODEL, input=again)).id != answer.id


@pytest.mark.parametrize("script", [TEXT_AND_CALLS, (pb.ChatResponse(text="a", logprobs=[likely("a")]), *END)])
async def test_every_field_is_what_the_sdk_takes_it_for(llm_gateway: Gateway, llm: FakeLlm, script: Any) -> None:
    """The SDK reads without checking; its types check."""
    llm.says(*script)
    schema = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    asked = {"tools": [LOOK], "text": {"format": schema}, "include": [LOGPROBS], "tool_choice": "required"}
    Response.model_validate((await respond(llm_gateway, **asked)).json())
    found = events(await respond(llm_gateway, **asked, stream=True))
    for event in found:
        assert EVENT.validate_python(event).type == event["type"]
    llm.says(pb.ChatResponse(text="a"), ServiceError(Kind.UNAVAILABLE, "the engine died"))
    for event in events(await respond(llm_gateway, **asked, stream=True)):
        EVENT.validate_python(event)


async def test_a_stream_of_events(client: openai.AsyncOpenAI) -> None:
    found = [event async for event in await client.responses.create(model=MODEL, input="hi", stream=True)]
    assert [event.sequence_number for event in found] == list(range(len(found)))
    assert "".join(event.delta for event in found if event.type == "response.output_text.delta") == "Hello wörld"
    assert found[-1].type == "response.completed"
    assert found[-1].response.output_text == "Hello wörld"


async def test_the_sdks_own_gathering_of_a_stream(client: openai.AsyncOpenAI) -> None:
    snapshots = []
    async with client.responses.stream(model=MODEL, input="hi") as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                snapshots.append(event.snapshot)
        answer = await stream.get_final_response()
    assert snapshots == ["Hello", "Hello wörld"]
    assert answer.output_text == "Hello wörld"


async def test_a_round_trip_of_tools(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(*TEXT_AND_CALLS)
    tools: Any = [LOOK]
    async with client.responses.stream(model=MODEL, input="hi", tools=tools) as stream:
        answer = await stream.get_final_response()
    text, look, _ = answer.output
    assert text.type == "message"
    assert look.type == "function_call"
    assert (look.name, look.parsed_arguments) == ("look", {"at": "sea"})
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "blue"}
        for item in answer.output
        if item.type == "function_call"
    ]
    llm.script = FakeLlm.script
    again: Any = [SAID, *answer.output, *results]
    assert (await client.responses.create(model=MODEL, input=again, tools=tools)).output_text == "Hello wörld"
    assert [message.role for message in llm.request.messages] == [
        pb.ROLE_USER,
        pb.ROLE_ASSISTANT,
        pb.ROLE_TOOL,
        pb.ROLE_TOOL,
    ]


async def test_structured_output(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text='{"what": "ships", "how_many": 3}', finish_reason=STOP), pb.ChatResponse(usage=USAGE))
    answer = await client.responses.parse(model=MODEL, input="hi", text_format=Sight)
    assert answer.output_parsed == Sight(what="ships", how_many=3)
    assert '"how_many"' in llm.request.format.json_schema
    async with client.responses.stream(model=MODEL, input="hi", text_format=Sight) as stream:
        assert (await stream.get_final_response()).output_parsed == answer.output_parsed
    again: Any = [SAID, *answer.output, SAID]
    assert (await client.responses.create(model=MODEL, input=again)).status == "completed"


async def test_an_answer_that_is_cut(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hel"), pb.ChatResponse(finish_reason=LENGTH), pb.ChatResponse(usage=USAGE))
    answer = await client.responses.create(model=MODEL, input="hi", max_output_tokens=1)
    assert answer.incomplete_details is not None
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    stream = await client.responses.create(model=MODEL, input="hi", max_output_tokens=1, stream=True)
    assert [event.type async for event in stream][-1] == "response.incomplete"


async def test_refusals_are_the_sdks_own(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model=MODEL, input="hi", previous_response_id="resp_1", stream=True)
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError, match="nothing is stored"):
        await client.responses.retrieve("resp_1")
    with pytest.raises(openai.NotFoundError, match="nothing is stored"):
        await client.responses.delete("resp_1")
    with pytest.raises(openai.NotFoundError, match="nothing is stored"):
        await client.responses.cancel("resp_1")
    llm.fails(ServiceError(Kind.OVERLOADED, "queue full", retry_after=0.001))
    with pytest.raises(openai.RateLimitError):
        await client.responses.create(model=MODEL, input="hi", stream=True)
    assert len(llm.requests) == 3  # the SDK came back twice


async def test_a_stream_that_is_closed_cancels_the_work(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), llm.hang)
    async with client.responses.stream(model=MODEL, input="hi") as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
    await llm.idle.wait()
    assert llm.running_calls == 0
