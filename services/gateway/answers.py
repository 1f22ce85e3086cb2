"""What the answers of the routes that generate text have in common."""

import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from flotilla.llm.v1 import llm_pb2 as pb
from starlette.responses import Response

from services.gateway.pieces import Call, Piece, Pieces
from services.gateway.sse import DONE, Events, EventStream

FINISH_REASONS: dict[int, str | None] = {
    pb.FINISH_REASON_UNSPECIFIED: None,
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


class Whole(Protocol):
    """Gathers one answer."""

    def add(self, call: int, piece: Any) -> None:
        """Take a piece of the call at that position."""

    def body(self) -> dict[str, Any]:
        """Return the JSON body, when all pieces are there."""


class Usage:
    """Adds up what the calls of a request have used."""

    def __init__(self) -> None:
        self._prompt = self._completion = self._cached = 0

    def add(self, usage: pb.Usage) -> None:
        """Count the usage of a call."""
        self._prompt += usage.prompt_tokens
        self._completion += usage.completion_tokens
        self._cached += usage.cached_tokens

    def body(self) -> dict[str, Any]:
        """Return OpenAI's `usage`."""
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._completion,
            "total_tokens": self._prompt + self._completion,
            "prompt_tokens_details": {"cached_tokens": self._cached},
        }

    def of_response(self) -> dict[str, Any]:
        """Return the `usage` of OpenAI's Responses API, with what is not counted apart as 0."""
        return {
            "input_tokens": self._prompt,
            "input_tokens_details": {"cached_tokens": self._cached, "cache_write_tokens": 0},
            "output_tokens": self._completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._prompt + self._completion,
        }


def head(prefix: str, kind: str, model: str) -> dict[str, Any]:
    """Return the fields that every body and every event of an answer begins with."""
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": None,
    }


class EventFrame:
    """The parts of an event that are the same in all of a stream, written once."""

    def __init__(self, fields: dict[str, Any], include_usage: bool) -> None:
        self._head = b"data: " + orjson.dumps(fields)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._include_usage = include_usage

    def choice(self, choice: bytes) -> bytes:
        """Return the event with that choice."""
        return self._head + choice + self._tail

    def usage(self, usage: Usage) -> bytes:
        """Return the event with the usage, where it was asked for."""
        return self._head + b'],"usage":' + orjson.dumps(usage.body()) + b"}\n\n" if self._include_usage else b""


async def stream(calls: Sequence[Call[Piece]], events: Events, keep_alive: float, last: bytes = DONE) -> Response:
    """Return the answer as events, and `last` after them. Raises ServiceError for what fails before the first."""
    pieces = Pieces(calls, keep_alive)
    try:
        await pieces.begin()
    except BaseException:
        await pieces.close()
        raise
    return EventStream(pieces, events, last)


async def gather(calls: Sequence[Call[Piece]], whole: Whole) -> Response:
    """Return the answer in one. Raises ServiceError."""
    pieces = Pieces(calls)
    try:
        while ready := await pieces.ready():
            for call, piece in ready:
                whole.add(call, piece)
    finally:
        await pieces.close()
    return Response(orjson.dumps(whole.body()), media_type="application/json")
