"""Requests to the language routes, and how their streams are read."""

import json
from typing import Any

import httpx
import orjson

from tests.integration.gateway.fake_llm import MODEL
from tests.integration.gateway.gateway import Gateway

USER = {"role": "user", "content": "hi"}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [USER]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}
"""What the routes need beside a model."""


def raw_request(path: str = "/v1/chat/completions", **changes: Any) -> bytes:
    """A small request as bytes of HTTP."""
    body = json.dumps({"model": MODEL, **ASKED[path], **changes}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def chat(gateway: Gateway, **changes: Any) -> httpx.Response:
    """Send a small chat."""
    return await gateway.http.post("/v1/chat/completions", json={"model": MODEL, "messages": [USER], **changes})


async def complete(gateway: Gateway, **changes: Any) -> httpx.Response:
    """Send a small completion."""
    return await gateway.http.post("/v1/completions", json={"model": MODEL, "prompt": "hi", **changes})


def events(response: httpx.Response) -> list[Any]:
    """The JSON of every event; the last must be [DONE]."""
    *bodies, last, nothing = response.text.split("\n\n")
    assert (last, nothing) == ("data: [DONE]", "")
    return [orjson.loads(body.removeprefix("data: ")) for body in bodies]


def choices(response: httpx.Response) -> list[Any]:
    """The one choice of every event."""
    return [event["choices"][0] for event in events(response)]
