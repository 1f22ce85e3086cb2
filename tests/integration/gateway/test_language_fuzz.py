"""Whatever JSON comes, the language routes answer: never a fault of the gateway's own."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bad_requests import JSON
from tests.integration.gateway.fake_llm import MODEL, FakeLlm
from tests.integration.gateway.gateway import Gateway, running

# Lone surrogates and numbers that are not finite included: JSON can carry both.
TEXT = st.text(st.characters(), max_size=5)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"])},
    optional={
        "content": TEXT | st.just([{"type": "text", "text": "a"}]) | VALUES,
        "name": TEXT,
        "tool_call_id": TEXT,
        "tool_calls": VALUES | st.just([{"id": "a", "function": {"name": "b", "arguments": "c"}}]),
    },
)
FORMAT = st.fixed_dictionaries(
    {"type": st.just("json_schema"), "json_schema": st.fixed_dictionaries({"schema": VALUES})}
)
TOOL = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": TEXT}, optional={"parameters": VALUES})}
)
ITEM = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "function_call_output"])},
    optional={
        "role": st.sampled_from(["user", "assistant"]),
        "content": TEXT | st.just([{"type": "input_text", "text": "a"}]) | VALUES,
        "call_id": TEXT,
        "name": TEXT,
        "arguments": TEXT,
        "output": TEXT | VALUES,
    },
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "messages": st.lists(MESSAGE, min_size=1, max_size=2),
    "input": TEXT | st.lists(ITEM, max_size=2),
    "text": st.fixed_dictionaries({"format": VALUES | st.just({"type": "json_schema", "name": "a", "schema": {}})}),
    "metadata": st.dictionaries(TEXT, TEXT, max_size=2),
    "include": st.lists(st.sampled_from(["message.output_text.logprobs", "other"]), max_size=2),
    "prompt": TEXT | st.lists(TEXT, max_size=3) | st.lists(st.integers(-1, 2**33), max_size=3),
    "tools": st.lists(TOOL | st.fixed_dictionaries({"type": st.just("function"), "name": TEXT}), max_size=2),
    "response_format": FORMAT,
    "stop": TEXT | st.lists(TEXT, max_size=3),
    "logit_bias": st.dictionaries(st.integers(-1, 2**33).map(str) | TEXT, st.floats() | st.integers(), max_size=3),
    "seed": st.integers(),
    "stream": st.booleans(),
    "n": st.integers(0, 9),
    "temperature": st.floats(0, 2),
    "guided_json": VALUES | st.dictionaries(TEXT, VALUES, max_size=2),
    "guided_choice": st.lists(TEXT, max_size=3),
    "nvext": st.fixed_dictionaries({}, optional={"guided_regex": TEXT, "top_k": st.integers()}),
    "tool_choice": VALUES | st.just({"type": "function", "function": {"name": "a"}}),
    "user": TEXT,
}


@pytest.fixture(scope="module")
async def language(request: pytest.FixtureRequest) -> Any:
    async with FakeLlm().running() as llm, running(llm_addresses=llm.address) as gateway:
        yield gateway


def bodies(fields: list[str], required: str) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies with some of these fields, each with a value that may fit or with any."""
    optional = {name: LIKELY.get(name, SCALARS) | VALUES for name in fields}
    return st.fixed_dictionaries({"model": st.just(MODEL), required: LIKELY[required]}, optional=optional)


async def fields_of(gateway: Gateway, name: str) -> list[str]:
    """The documented fields of a request."""
    description = (await gateway.http.get("/openapi.json")).json()
    return list(description["components"]["schemas"][name]["properties"])


@pytest.mark.parametrize(
    ("path", "name", "required"),
    [
        ("/v1/chat/completions", "ChatRequest", "messages"),
        ("/v1/completions", "CompletionsRequest", "prompt"),
        ("/v1/tokenize", "TokenizeRequest", "prompt"),
        ("/v1/responses", "ResponsesRequest", "input"),
    ],
)
async def test_any_body_is_answered(language: Gateway, path: str, name: str, required: str) -> None:
    fields = [field for field in await fields_of(language, name) if field not in ("model", required)]
    loop_bodies: list[dict[str, Any]] = []

    @settings(max_examples=300, database=None, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(bodies(fields, required))
    def collect(body: dict[str, Any]) -> None:
        loop_bodies.append(body)

    collect()
    statuses = set()
    for body in loop_bodies:
        response = await language.http.post(path, content=json.dumps(body), headers=JSON)
        assert response.status_code in (200, 400, 404), (body, response.text)
        statuses.add(response.status_code)
        if response.status_code == 400:
            assert response.json()["error"]["param"], (body, response.text)
    assert {200, 400} <= statuses
