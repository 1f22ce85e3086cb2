"""OpenAI's Responses API through the whole fleet, with the client that applications have."""

import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from tests.e2e.llm_requests import MODEL, chat
from tests.unit.llm.schemas import closed
from tools.fleet.private import PrivateFleet, private_fleet

SAID = {"role": "user", "content": "Tell me about the sea."}
PARAMETERS = closed(city={"type": "string", "maxLength": 20}, days={"enum": [1, 3, 7]})
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city",
    "parameters": PARAMETERS,
    "strict": True,
}


class Answer(BaseModel):
    """What an application asks the model for."""

    city: str = Field(max_length=12)
    degrees: int = Field(ge=-50, le=50)


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateFleet]:
    async with private_fleet(tmp_path_factory.mktemp("fleet"), services=["llm"]) as running:
        yield running


@pytest.fixture
async def client(fleet: PrivateFleet) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none", timeout=None) as client:
        yield client


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": [SAID], "max_output_tokens": 24, "temperature": 0, **changes}


async def test_a_response_says_what_a_chat_says(client):
    response = await client.responses.create(**asked())
    answer = await client.chat.completions.create(**chat(messages=[SAID], max_tokens=24, temperature=0))
    assert response.output_text == answer.choices[0].message.content
    assert response.usage.input_tokens == answer.usage.prompt_tokens
    assert response.usage.output_tokens == answer.usage.completion_tokens == 24
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")


async def test_a_stream_says_what_the_whole_response_says(client):
    body = asked(include=["message.output_text.logprobs"], top_logprobs=2)
    whole = await client.responses.create(**body)
    found = [event async for event in await client.responses.create(**body, stream=True)]
    deltas = [event for event in found if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == whole.output_text == found[-1].response.output_text
    assert found[-1].type == "response.incomplete"
    assert found[-1].response.usage.output_tokens == whole.usage.output_tokens
    positions = [position for event in deltas for position in event.logprobs]
    assert [position.token for position in positions] == [p.token for p in whole.output[0].content[0].logprobs]
    assert len(positions) == 24
    assert all(len(position.top_logprobs) == 2 for position in positions)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
async def test_a_call_and_what_it_returned(client, choice):
    body = asked(tools=[WEATHER], max_output_tokens=200, parallel_tool_calls=False)
    async with client.responses.stream(**body, tool_choice=choice) as stream:
        answer = await stream.get_final_response()
    (call,) = answer.output
    assert (answer.status, call.type, call.name) == ("completed", "function_call", "weather")
    jsonschema.validate(json.loads(call.arguments), PARAMETERS)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Snow, -3 degrees."}
    again = await client.responses.create(**{**body, "input": [SAID, *answer.output, result]}, tool_choice="none")
    assert again.output_text


async def test_structured_output_is_parsed_by_the_client(client):
    body = asked(input="How warm is it in Rome?", max_output_tokens=100)
    answer = await client.responses.parse(**body, text_format=Answer)
    assert isinstance(answer.output_parsed, Answer)
    async with client.responses.stream(**body, text_format=Answer) as stream:
        assert (await stream.get_final_response()).output_parsed == answer.output_parsed


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input": "word " * 9000}, "input"),
        ({"input": [SAID, {"role": "assistant", "content": "It is blue."}]}, "input"),
        ({"input": [SAID, {"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[1].call_id"),
        (
            {"input": [SAID, {"type": "function_call", "call_id": "c", "name": "look", "arguments": "["}, SAID]},
            "input[1].arguments",
        ),
        ({"max_output_tokens": 100_000}, "max_output_tokens"),
        ({"tools": [{**WEATHER, "name": "no spaces"}]}, "tools[0].name"),
        ({"tools": [{**WEATHER, "parameters": {"type": "bogus"}}]}, "tools[0].parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "clock"}}, "tool_choice.name"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "bogus"}}}},
            "text.format.schema",
        ),
    ],
)
async def test_bad_requests_name_their_field(client, changes, param):
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(**asked(**changes), stream=True)
    assert refused.value.param == param
    assert param in refused.value.message
