"""Requests to the language routes, and how their streams are read."""

from typing import Any

import httpx
import orjson

from tests.integration.gateway.fake_llm import MODEL
from tests.integration.gateway.gateway import Gateway

USER = {"role": "user", "content": "hi"}


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
