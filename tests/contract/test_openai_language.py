"""The unmodified OpenAI SDK against the language routes."""

from collections.abc import AsyncIterator

import openai
import pydantic
import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, ServiceError
from tests.integration.gateway.fake_llm import LENGTH, MODEL, STOP, TOOL_CALLS, USAGE, FakeLlm, likely
from tests.integration.gateway.gateway import Gateway

USER = {"role": "user", "content": "hi"}
LOOK = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}


class Sight(pydantic.BaseModel):
    what: str
    how_many: int


@pytest.fixture
async def client(llm_gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{llm_gateway.http_port}/v1", api_key="none") as sdk:
        yield sdk


async def test_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=[USER])
    assert answer.choices[0].message.content == "Hello wörld"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert (answer.usage.total_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (8, 2)
    again = [USER, answer.choices[0].message, USER]  # an answer goes back as it came
    assert (await client.chat.completions.create(model=MODEL, messages=again)).id != answer.id


async def test_stream(client: openai.AsyncOpenAI) -> None:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=MODEL, messages=[USER], stream=True, stream_options={"include_usage": True}
        )
    ]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hello wörld"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_sdks_own_gathering_of_a_stream(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(
        pb.ChatResponse(text="I look."),
        pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, id="c1", name="look")]),
        pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, arguments='{"at": ')]),
        pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, arguments='"sea"}')]),
        pb.ChatResponse(finish_reason=TOOL_CALLS),
        pb.ChatResponse(usage=USAGE),
    )
    async with client.chat.completions.stream(model=MODEL, messages=[USER], tools=[LOOK]) as stream:
        answer = await stream.get_final_completion()
    message = answer.choices[0].message
    assert message.content == "I look."
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"at": "sea"}'
    reply = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "blue"}
    whole = await client.chat.completions.create(model=MODEL, messages=[USER, message, reply], tools=[LOOK])
    assert whole.choices[0].message.tool_calls is not None
    assert whole.choices[0].message.tool_calls[0].function.arguments == '{"at": "sea"}'
    assert whole.choices[0].finish_reason == "tool_calls"


async def test_structured_output(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text='{"what": "ships", "how_many": 3}', finish_reason=STOP), pb.ChatResponse(usage=USAGE))
    answer = await client.chat.completions.parse(model=MODEL, messages=[USER], response_format=Sight)
    assert answer.choices[0].message.parsed == Sight(what="ships", how_many=3)
    assert '"how_many"' in llm.request.format.json_schema


async def test_logprobs(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(
        pb.ChatResponse(text="Hi", logprobs=[likely("Hi", -0.5, ("Ho", -1.5))]),
        pb.ChatResponse(finish_reason=STOP),
        pb.ChatResponse(usage=USAGE),
    )
    answer = await client.chat.completions.create(model=MODEL, messages=[USER], logprobs=True, top_logprobs=1)
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    (position,) = answer.choices[0].logprobs.content
    assert (position.token, position.logprob, position.top_logprobs[0].token) == ("Hi", -0.5, "Ho")


async def test_completions_with_echo(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(
        pb.GenerateResponse(text="Hi you", logprobs=[likely("Hi", None), likely(" you", -2, (" all", -1))]),
        pb.GenerateResponse(text="!", logprobs=[likely("!", -0.5)]),
        pb.GenerateResponse(finish_reason=LENGTH),
        pb.GenerateResponse(usage=USAGE),
    )
    answer = await client.completions.create(model=MODEL, prompt=[[1, 2]], echo=True, logprobs=1, max_tokens=1)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hi you!", "length")
    likelihood = answer.choices[0].logprobs
    assert likelihood is not None
    assert likelihood.token_logprobs == [None, -2.0, -0.5]
    assert likelihood.top_logprobs == [None, {" all": -1.0, " you": -2.0}, {"!": -0.5}]
    assert likelihood.text_offset == [0, 2, 6]


async def test_a_completion_as_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(model=MODEL, prompt="hi", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello wörld"


async def test_errors_before_a_stream_are_the_sdks_own(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=MODEL, messages=[USER], temperature=9, stream=True)
    assert refused.value.param == "temperature"
    llm.fails(ServiceError(Kind.OVERLOADED, "queue full", retry_after=0.001))
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model=MODEL, messages=[USER], stream=True)
    assert len(llm.requests) == 3  # the SDK came back twice


async def test_errors_within_a_stream_are_raised(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), ServiceError(Kind.UNAVAILABLE, "the engine died", code="connection_lost"))
    seen = []
    with pytest.raises(openai.APIError, match="the engine died") as caught:
        async for chunk in await client.chat.completions.create(model=MODEL, messages=[USER], stream=True):
            seen.append(chunk)
    assert caught.value.code == "connection_lost"
    assert len(seen) == 2


async def test_a_stream_that_is_closed_cancels_the_work(client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), llm.hang)
    stream = await client.chat.completions.create(model=MODEL, messages=[USER], stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    await llm.idle.wait()
    assert llm.running_calls == 0
