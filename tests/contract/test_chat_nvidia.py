"""The unmodified ChatNVIDIA of langchain-nvidia-ai-endpoints against the language routes."""

import asyncio
import enum
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from flotilla.llm.v1 import llm_pb2 as pb
from langchain_nvidia_ai_endpoints import ChatNVIDIA

from services.common.errors import Kind, ServiceError
from tests.integration.gateway.fake_llm import MODEL, STOP, TOOL_CALLS, USAGE, FakeLlm, hello
from tests.integration.gateway.gateway import Gateway

# It warns of every model that is not in its own list.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:langchain_nvidia_ai_endpoints")

SIGHT = '{"what": "ships", "how_many": 3}'


class Sight(pydantic.BaseModel):
    what: str
    how_many: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def look(at: str) -> str:
    """Look at something."""
    return at


def answer(response: type[Any], request: Any) -> list[Any]:
    """Call the tool where there is one, keep the constraint where there is one."""
    if request.tools:
        start = pb.ToolCallDelta(id="c1", name=request.tools[0].name)
        pieces = [start, pb.ToolCallDelta(arguments='{"at": '), pb.ToolCallDelta(arguments='"sea"}')]
        calls = [response(tool_calls=[piece]) for piece in pieces]
        return [*calls, response(finish_reason=TOOL_CALLS), response(usage=USAGE)]
    constraint = request.format.WhichOneof("format")
    if constraint is None:
        return hello(response, request)
    text = SIGHT if constraint == "json_schema" else request.format.choice.options[1]
    if '"choice"' in request.format.json_schema:
        text = '{"choice": "blue"}'
    return [response(text=text), response(finish_reason=STOP), response(usage=USAGE)]


@pytest.fixture
async def model(llm_gateway: Gateway, llm: FakeLlm, monkeypatch: pytest.MonkeyPatch) -> ChatNVIDIA:
    monkeypatch.setenv("NVIDIA_USAGE_TELEMETRY_ENABLED", "false")
    llm.script = answer
    url = f"http://127.0.0.1:{llm_gateway.http_port}/v1"
    return await in_thread(lambda: ChatNVIDIA(base_url=url, model=MODEL, api_key="none", temperature=0))


async def in_thread(call: Callable[[], Any]) -> Any:
    """Its client blocks."""
    return await asyncio.to_thread(call)


async def test_models(model: ChatNVIDIA) -> None:
    assert [found.id for found in await in_thread(lambda: model.available_models)] == [MODEL]


async def test_chat_and_stream(model: ChatNVIDIA) -> None:
    whole = await in_thread(lambda: model.invoke("hi"))
    assert whole.content == "Hello wörld"
    assert whole.usage_metadata["total_tokens"] == 8
    pieces = await in_thread(lambda: list(model.stream("hi")))
    assert "".join(piece.content for piece in pieces) == "Hello wörld"
    assert [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert (await model.ainvoke("hi")).content == "Hello wörld"


async def test_structured_output_at_the_first_try(model: ChatNVIDIA, llm: FakeLlm) -> None:
    assert await in_thread(lambda: model.with_structured_output(Sight).invoke("?")) == Sight(what="ships", how_many=3)
    assert await in_thread(lambda: model.with_structured_output(Colour).invoke("?")) is Colour.BLUE
    assert len(llm.requests) == 2


@pytest.mark.parametrize("wrap", [lambda guided: guided, lambda guided: {"nvext": guided}])
async def test_its_other_ways_to_ask_for_structure(model: ChatNVIDIA, wrap: Callable[[Any], Any]) -> None:
    schema = wrap({"guided_json": Sight.model_json_schema()})
    assert (await in_thread(lambda: model.bind(**schema).invoke("?"))).content == SIGHT
    choice = wrap({"guided_choice": ["red", "blue"]})
    assert (await in_thread(lambda: model.bind(**choice).invoke("?"))).content == "blue"


async def test_tools(model: ChatNVIDIA) -> None:
    bound = model.bind_tools([look], tool_choice="required")
    call = {"name": "look", "args": {"at": "sea"}, "id": "c1", "type": "tool_call"}
    assert (await in_thread(lambda: bound.invoke("look"))).tool_calls == [call]
    first, *others = await in_thread(lambda: list(bound.stream("look")))
    assert sum(others, first).tool_calls == [call]


async def test_a_failure_within_a_stream_is_raised(model: ChatNVIDIA, llm: FakeLlm) -> None:
    llm.says(pb.ChatResponse(text="Hello"), ServiceError(Kind.UNAVAILABLE, "the engine died"))
    with pytest.raises(Exception, match="the engine died"):
        await in_thread(lambda: list(model.stream("hi")))
