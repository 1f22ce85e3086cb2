"""Structured output and tools through the engine: what ends by itself parses and validates."""

import asyncio
import json
import re

import jsonschema
import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from tests.integration.llm.calls import collect, completion, conversation
from tests.unit.llm.schemas import SUPPORTED

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TIME = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]}
SCHEMAS = {"get_weather": WEATHER, "get_time": TIME}
TOOLS = [pb.Tool(name=name, description=name, parameters=json.dumps(s)) for name, s in SCHEMAS.items()]
GREEDY = pb.Sampling(max_tokens=120, temperature=0)


@pytest.mark.parametrize("start", range(0, len(SUPPORTED), 20))
async def test_answers_keep_their_schema(stub, start):
    async def answer(index, schema):
        made = pb.OutputFormat(json_schema=json.dumps(schema))
        sampling = pb.Sampling(max_tokens=80, temperature=1.0, seed=index)
        return await collect(stub.Chat(conversation("Answer with JSON.", sampling, format=made)))

    schemas = SUPPORTED[start : start + 20]
    results = await asyncio.gather(*(answer(start + i, schema) for i, schema in enumerate(schemas)))
    ended = 0
    for schema, ((found,), _) in zip(schemas, results, strict=True):
        if found.finish == pb.FINISH_REASON_STOP:
            jsonschema.validate(json.loads(found.text), schema, cls=jsonschema.Draft202012Validator)
            ended += 1
    assert ended >= len(schemas) / 3


async def test_json_objects(stub):
    sampling = pb.Sampling(max_tokens=200, temperature=0)
    made = pb.OutputFormat(json_object=True)
    (answer,), _ = await collect(stub.Chat(conversation("Name and age of Ann, 30, as JSON.", sampling, format=made)))
    assert answer.text.startswith("{")
    if answer.finish == pb.FINISH_REASON_STOP:
        assert isinstance(json.loads(answer.text), dict)


async def test_regular_expressions(stub):
    made = pb.OutputFormat(regex=r"(19|20)\d{2}-(0[1-9]|1[0-2])")
    (answer,), _ = await collect(stub.Generate(completion("The month is", made, max_tokens=20)))
    assert answer.finish == pb.FINISH_REASON_STOP
    assert re.fullmatch(made.regex, answer.text)


async def test_choices(stub):
    options = ["yes", "no", 'a "quoted" one', "größer\n😀"]
    for seed in range(5):
        made = pb.OutputFormat(choice=pb.Choice(options=options))
        (answer,), _ = await collect(stub.Generate(completion("Is it?", made, max_tokens=30, seed=seed)))
        assert answer.text in options
        assert answer.finish == pb.FINISH_REASON_STOP


async def test_grammars(stub):
    made = pb.OutputFormat(grammar='root ::= "<" word ">"\nword ::= [a-c]{2,4}\n')
    (answer,), _ = await collect(stub.Generate(completion("x", made, max_tokens=20, n=1)))
    assert re.fullmatch("<[a-c]{2,4}>", answer.text)


async def test_several_answers_each_keep_the_constraint(stub):
    made = pb.OutputFormat(json_schema=json.dumps(WEATHER))
    answers, _ = await collect(stub.Generate(completion("Weather in Rome:", made, max_tokens=60, n=4, seed=1)))
    for answer in answers:
        assert answer.finish == pb.FINISH_REASON_STOP
        jsonschema.validate(json.loads(answer.text), WEATHER)


@pytest.mark.parametrize(
    ("choice", "parallel", "names"),
    [
        (pb.ToolChoice(mode=pb.TOOL_MODE_REQUIRED), False, {"get_weather", "get_time"}),
        (pb.ToolChoice(mode=pb.TOOL_MODE_REQUIRED), True, {"get_weather", "get_time"}),
        (pb.ToolChoice(mode=pb.TOOL_MODE_NAMED, name="get_time"), True, {"get_time"}),
    ],
)
async def test_forced_calls_are_valid(stub, choice, parallel, names):
    request = conversation(
        "What is the weather in Paris?", GREEDY, tools=TOOLS, tool_choice=choice, parallel_tool_calls=parallel
    )
    (answer,), _ = await collect(stub.Chat(request))
    assert answer.text == ""
    calls = list(answer.calls.values())
    if answer.finish != pb.FINISH_REASON_TOOL_CALLS:
        assert parallel  # it may go on calling until the limit
        calls.pop()
    assert calls
    for identifier, name, arguments in calls:
        assert re.fullmatch("call_[0-9a-f]{24}", identifier)
        assert name in names
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])


async def test_tools_that_may_be_called_leave_room_for_text(stub):
    (answer,), _ = await collect(stub.Chat(conversation("Say hello to Ann.", GREEDY, tools=TOOLS)))
    assert answer.text or answer.calls


async def test_results_of_tools_are_read(stub):
    messages = [
        pb.Message(role=pb.ROLE_USER, content="Weather in Paris?"),
        pb.Message(
            role=pb.ROLE_ASSISTANT,
            tool_calls=[pb.ToolCall(id="c1", name="get_weather", arguments='{"city": "Paris", "unit": "C"}')],
        ),
        pb.Message(role=pb.ROLE_TOOL, tool_call_id="c1", content="sunny, 25"),
    ]
    (answer,), _ = await collect(stub.Chat(pb.ChatRequest(messages=messages, tools=TOOLS, sampling=GREEDY)))
    assert answer.finish
