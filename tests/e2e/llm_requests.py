"""Requests to the language model, and how their streams are read."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

MODEL = "smollm2-135m-instruct"
USER = {"role": "user", "content": "Tell me about the sea."}
LONG_ANSWER = {"ignore_eos": True, "max_tokens": 2000, "temperature": 0}
SENTENCES = (
    "The capital of France is Paris, and it lies on the river Seine.",
    "Water freezes at zero degrees and boils at one hundred degrees.",
    "The sun rises in the east and sets in the west.",
    "She opened the door and walked into the kitchen to make some tea.",
    "Dogs are loyal animals that like to play with their owners.",
    "The teacher asked the students to read the first chapter of the book.",
    "Most plants need light, water and air in order to grow.",
    "He was born in a small town and moved to the city as a child.",
    "The ship left the harbour in the morning and reached the island at night.",
    "In winter the days are short and the nights are long and cold.",
)
JSON_SCHEMA = "response_format.json_schema.schema"


def chat(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [USER], "max_tokens": 16, **changes}


def completion(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": "The sea is", "max_tokens": 16, **changes}


def of_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def saying(content: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content}]}


PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
# What is changed in a good chat, the status, and the parameter that the error names.
BAD_CHATS: list[tuple[dict[str, Any], int, str]] = [
    (saying("word " * 9000), 400, "messages"),
    ({"max_tokens": -1}, 400, "max_tokens"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_tokens": 2**40}, 400, "max_tokens"),
    ({"max_tokens": 100_000}, 400, "max_tokens"),
    ({"max_tokens": None, "max_completion_tokens": 100_000}, 400, "max_completion_tokens"),
    ({"temperature": -1}, 400, "temperature"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"top_p": 1.5}, 400, "top_p"),
    ({"n": 1000}, 400, "n"),
    ({"stop": [f"stop {i}" for i in range(1000)]}, 400, "stop"),
    ({"stop": [""]}, 400, "stop[0]"),
    (saying("hi", "wizard"), 400, "messages[0].role"),
    ({"messages": []}, 400, "messages"),
    (saying(PICTURE), 400, "messages[0].content[0]"),
    ({"logit_bias": {"5": 1}}, 400, "logit_bias"),
    ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
    ({"response_format": of_schema({"type": "bogus"})}, 400, JSON_SCHEMA),
    ({"response_format": of_schema({"$ref": "#/$defs/none"})}, 400, JSON_SCHEMA),
    ({"response_format": of_schema(7)}, 400, JSON_SCHEMA),
    ({"guided_regex": "(a"}, 400, "guided_regex"),
    ({"guided_grammar": "root ::= nothing"}, 400, "guided_grammar"),
    ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, 400, "tools[0].function.name"),
    ({"tool_choice": "required"}, 400, "tool_choice"),
    ({"model": "gpt-5"}, 404, "model"),
]
BAD_COMPLETIONS: list[tuple[dict[str, Any], int, str]] = [
    ({"prompt": "word " * 9000}, 400, "prompt"),
    ({"prompt": [1, 49152]}, 400, "prompt[1]"),
    ({"prompt": [-1]}, 400, "prompt[0]"),
    ({"prompt": []}, 400, "prompt"),
    ({"logprobs": 6}, 400, "logprobs"),
    ({"suffix": "end"}, 400, "suffix"),
    ({"best_of": 3}, 400, "best_of"),
    ({"model": "gpt-5"}, 404, "model"),
]
# A body that is no request, and words of its error.
BAD_BODIES: list[tuple[bytes, str | None, str]] = [
    (b"\xff{", None, "not UTF-8"),
    (b"nope", None, "not valid JSON"),
    (
        json.dumps(chat(**saying("?"))).encode().replace(b'"?"', b'"\\ud800"'),
        "messages[0].content",
        "surrogate",
    ),
    (b'{"model": "' + MODEL.encode() + b'"}', "messages", "required"),
]


async def events(response: httpx.Response, came: Callable[[], None] = lambda: None) -> list[Any]:
    """Read a stream to its end; return the JSON of every event, and "[DONE]" where it says so."""
    found: list[Any] = []
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
            came()
    return found


@asynccontextmanager
async def streaming(http: httpx.AsyncClient, **changes: Any) -> AsyncIterator[httpx.Response]:
    """Open a stream of a chat."""
    async with http.stream("POST", "/v1/chat/completions", json=chat(stream=True, **changes)) as response:
        yield response


def text_of(found: list[Any]) -> str:
    """The text of a stream's events."""
    choices = [choice for event in found if event != "[DONE]" for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
