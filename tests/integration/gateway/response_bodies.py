"""Requests to /v1/responses, and how their streams are read."""

from typing import Any

import httpx
import orjson
from flotilla.llm.v1 import llm_pb2 as pb

from tests.integration.gateway.fake_llm import MODEL, STOP, TOOL_CALLS, USAGE
from tests.integration.gateway.gateway import Gateway

PATH = "/v1/responses"
LOGPROBS = "message.output_text.logprobs"
SCHEMA = {"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"enum": ["é", 1.5]}}}
DOCUMENT = '{"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"enum": ["é", 1.5]}}}'
TOOL = {"type": "function", "name": "look", "description": "Looks", "parameters": SCHEMA, "strict": True}
END = (pb.ChatResponse(finish_reason=STOP), pb.ChatResponse(usage=USAGE))
TEXT_AND_CALLS = (
    pb.ChatResponse(text="I look."),
    pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, id="c1", name="look")]),
    pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, arguments='{"at": ')]),
    pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=0, arguments='"sea"}')]),
    pb.ChatResponse(tool_calls=[pb.ToolCallDelta(index=1, id="c2", name="stop", arguments="{}")]),
    pb.ChatResponse(finish_reason=TOOL_CALLS),
    pb.ChatResponse(usage=USAGE),
)


async def respond(gateway: Gateway, **changes: Any) -> httpx.Response:
    """Ask for a small response."""
    return await gateway.http.post(PATH, json={"model": MODEL, "input": "hi", **changes})


def events(response: httpx.Response) -> list[Any]:
    """The JSON of every event. Their types and numbers must be what the lines around them say."""
    *blocks, nothing = response.text.split("\n\n")
    assert nothing == ""
    found = []
    for number, block in enumerate(blocks):
        kind, data = block.split("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert (kind, number) == (f"event: {event['type']}", event["sequence_number"])
        found.append(event)
    return found


def without_ids(value: Any) -> Any:
    """The same without what is another each time."""
    if isinstance(value, dict):
        changing = {"id", "item_id", "created_at", "completed_at"}
        return {key: without_ids(held) for key, held in value.items() if key not in changing}
    return [without_ids(held) for held in value] if isinstance(value, list) else value
