"""Requests that are refused, by name: what is wrong, the request, and the field that the error names."""

import math

from flotilla.llm.v1 import llm_pb2 as pb

S, F, M = pb.Sampling, pb.OutputFormat, pb.Message
USER = M(role=pb.ROLE_USER, content="hi")
TOOL = pb.Tool(name="f", parameters='{"type": "object"}')
CALL = pb.ToolCall(id="c", name="f", arguments="{}")


def generate(sampling=None, format=None, **fields):  # noqa: A002
    fields = fields or {"text": "hello"}
    return pb.GenerateRequest(sampling=sampling, format=format, **fields)


def chat(*messages, **fields):
    return pb.ChatRequest(messages=messages or [USER], **fields)


_OUT_OF_RANGE = {
    "temperature": (-0.1, 2.1, math.nan, math.inf, -math.inf),
    "top_p": (0.0, 1.1, -1.0, math.nan),
    "min_p": (-0.1, 1.1, math.nan),
    "frequency_penalty": (-2.1, 2.1, math.nan),
    "presence_penalty": (-2.1, 2.1, math.inf),
    "repetition_penalty": (0.0, 2.1, math.nan),
    "n": (0, 9),
    "top_logprobs": (21, 1),
    "min_tokens": (17,),
    "max_tokens": (0, 2**31),
}
_FORMATS = {
    "format.json_schema": [
        F(json_schema="{"),
        F(json_schema='{"type": "bogus"}'),
        F(json_schema='{"not": {}}'),
        F(json_schema='{"type": "integer", "minimum": 2, "maximum": 1}'),
    ],
    "format.regex": [F(regex=""), F(regex="(a"), F(regex="(?=a)b"), F(regex="x" * 5000)],
    "format.choice.options": [F(choice=pb.Choice()), F(choice=pb.Choice(options=["a"] * 257))],
    "format.choice.options[1]": [F(choice=pb.Choice(options=["a", ""]))],
    "format.grammar": [F(grammar=""), F(grammar="x" * 70_000)],
}
_JSON = F(json_object=True)

BAD_GENERATE = {
    **{
        f"{name} is {value}": (generate(S(**{name: value}, logprobs=value == 21)), f"sampling.{name}")
        for name, values in _OUT_OF_RANGE.items()
        for value in values
    },
    **{f"{field} {i}": (generate(format=f), field) for field, fs in _FORMATS.items() for i, f in enumerate(fs)},
    "logit bias": (generate(S(logit_bias={1: 1.0})), "sampling.logit_bias"),
    "1,000 stop strings": (generate(S(stop=["a"] * 1000)), "sampling.stop"),
    "empty stop string": (generate(S(stop=["a", ""])), "sampling.stop[1]"),
    "long stop string": (generate(S(stop=["a" * 257])), "sampling.stop[0]"),
    "stop and a format": (generate(S(stop=["a"]), _JSON), "sampling.stop"),
    "ignore_eos and a format": (generate(S(ignore_eos=True), _JSON), "sampling.ignore_eos"),
    "no prompt": (pb.GenerateRequest(), "prompt"),
    "empty text": (generate(text=""), "text"),
    "no ids": (generate(tokens=pb.TokenIds()), "tokens"),
    "id out of range": (generate(tokens=pb.TokenIds(ids=[1, 10**6])), "tokens.ids[1]"),
    "long prompt": (generate(text="a" * 100_000), "text"),
    "more characters than are taken": (generate(text="a" * 2_000_000), "text"),
    "many ids": (generate(tokens=pb.TokenIds(ids=[1] * 10_000)), "tokens"),
}
BAD_CHAT = {
    "no messages": (pb.ChatRequest(), "messages"),
    "too many messages": (chat(*[USER] * 2049), "messages"),
    "unknown role": (chat(M(role=9, content="a")), "messages[0].role"),
    "no role": (chat(M(content="a")), "messages[0].role"),
    "bad name": (chat(M(role=pb.ROLE_USER, name="a b")), "messages[0].name"),
    "tool without id": (chat(M(role=pb.ROLE_TOOL, content="a")), "messages[0].tool_call_id"),
    "tool with an unknown id": (chat(M(role=pb.ROLE_TOOL, tool_call_id="x")), "messages[0].tool_call_id"),
    "id of a user": (chat(M(role=pb.ROLE_USER, tool_call_id="x")), "messages[0].tool_call_id"),
    "calls of a user": (chat(M(role=pb.ROLE_USER, tool_calls=[CALL])), "messages[0].tool_calls"),
    "bad arguments": (
        chat(M(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(id="c", name="f", arguments="[")]), USER),
        "messages[0].tool_calls[0].arguments",
    ),
    "call without id": (
        chat(M(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(name="f")]), USER),
        "messages[0].tool_calls[0].id",
    ),
    "the assistant last": (chat(USER, M(role=pb.ROLE_ASSISTANT, content="a")), "messages"),
    "long conversation": (chat(M(role=pb.ROLE_USER, content="a" * 100_000)), "messages"),
    "bad tool name": (chat(tools=[pb.Tool(name="a b")]), "tools[0].name"),
    "same tool twice": (chat(tools=[TOOL, TOOL]), "tools[1].name"),
    "too many tools": (chat(tools=[pb.Tool(name=f"f{i}") for i in range(129)]), "tools"),
    "broken parameters": (chat(tools=[pb.Tool(name="f", parameters="{")]), "tools[0].parameters"),
    "parameters of another type": (
        chat(tools=[pb.Tool(name="f", parameters='{"type": "string"}')]),
        "tools[0].parameters",
    ),
    "parameters that cannot be enforced": (
        chat(tools=[pb.Tool(name="f", parameters='{"type": "object", "not": {}}')]),
        "tools[0].parameters",
    ),
    "required without tools": (chat(tool_choice=pb.ToolChoice(mode=pb.TOOL_MODE_REQUIRED)), "tool_choice"),
    "unknown tool": (
        chat(tools=[TOOL], tool_choice=pb.ToolChoice(mode=pb.TOOL_MODE_NAMED, name="g")),
        "tool_choice.name",
    ),
    "name without mode": (chat(tools=[TOOL], tool_choice=pb.ToolChoice(name="f")), "tool_choice.name"),
    "unknown mode": (chat(tools=[TOOL], tool_choice=pb.ToolChoice(mode=9)), "tool_choice.mode"),
    "tools and a format": (chat(tools=[TOOL], format=_JSON), "format"),
    "stop and a forced call": (
        chat(tools=[TOOL], tool_choice=pb.ToolChoice(mode=pb.TOOL_MODE_REQUIRED), sampling=S(stop=["a"])),
        "sampling.stop",
    ),
    "negative temperature": (chat(sampling=S(temperature=-1)), "sampling.temperature"),
    "huge max_tokens": (chat(sampling=S(max_tokens=2**31)), "sampling.max_tokens"),
}
