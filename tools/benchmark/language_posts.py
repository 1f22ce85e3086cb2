"""Mixed requests to a language model, the same in every run: what users send, and how they leave."""

import json
import random
from typing import Any

from tools.benchmark.corpus import mixed_texts
from tools.benchmark.generator import Post

MOST_TOKENS, MOST_BYTES = 24, 4000
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"enum": [1, 2, 3]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}


def language_posts(model: str, count: int = 1000) -> list[Post]:
    """Return chats and completions, whole and as streams; one in four leaves in mid-stream, one in ten is refused."""
    chance = random.Random(11)  # noqa: S311  # reproducible, not secret
    return [_post(chance, model, text[:400]) for text in mixed_texts(count)]


def _post(chance: random.Random, model: str, text: str) -> Post:
    body: dict[str, Any] = {"model": model, "max_tokens": chance.randint(1, MOST_TOKENS), "ignore_eos": True}
    kind = chance.random()
    if kind < 0.1:
        return _chat(text, {**body, "temperature": -1}, status=400)
    if kind < 0.35:
        return _chat(text, {**body, "stream": True, "max_tokens": 200}, leave_after=chance.randint(1, MOST_BYTES))
    if kind < 0.6:
        return _chat(text, {**body, "stream": True})
    if kind < 0.7:
        form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}
        return _chat(text, {**body, "ignore_eos": False, "response_format": form})
    if kind < 0.8:
        return _chat(text, {**body, "logprobs": True, "top_logprobs": 2})
    return Post("/v1/completions", json.dumps({**body, "prompt": text}).encode())


def _chat(text: str, body: dict[str, Any], status: int = 200, leave_after: int | None = None) -> Post:
    content = json.dumps({**body, "messages": [{"role": "user", "content": text}]}).encode()
    return Post("/v1/chat/completions", content, status=status, leave_after=leave_after)
