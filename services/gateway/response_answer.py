"""The answer of `POST /v1/responses`: whole, or as events."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, ServiceError
from services.gateway.answers import Usage
from services.gateway.response_output import Event, Output
from services.gateway.schemas.chat import ToolChoice
from services.gateway.schemas.responses import FunctionTool, ResponsesRequest, TextFormat
from services.gateway.sse import Events

_ERROR_CODES = {Kind.OVERLOADED: "rate_limit_exceeded", Kind.INVALID_ARGUMENT: "invalid_prompt"}


class Answer:
    """A response as it grows."""

    def __init__(self, body: ResponsesRequest) -> None:
        """`body` is the request, whose parameters come back."""
        self.fields = _fields_of(body)
        self._output, self._usage, self._cut = Output(), Usage(), False

    def take(self, piece: pb.ChatResponse) -> Iterator[Event]:
        """Take a piece and tell what it adds."""
        if piece.HasField("usage"):
            self._usage.add(piece.usage)
            return
        self._cut |= piece.finish_reason == pb.FINISH_REASON_LENGTH
        yield from self._output.take(piece)

    def end(self) -> None:
        """All pieces are there."""
        if self._cut:
            self.fields["status"], self.fields["incomplete_details"] = "incomplete", {"reason": "max_output_tokens"}
        else:
            self.fields["status"], self.fields["completed_at"] = "completed", int(time.time())
        self.fields["output"], self.fields["usage"] = self._output.body(), self._usage.of_response()

    def fail(self, error: ServiceError) -> None:
        """No more pieces come."""
        self._output.cut()
        self.fields["status"], self.fields["output"] = "failed", self._output.body()
        self.fields["error"] = {
            "code": _ERROR_CODES.get(error.kind, "server_error"),
            "message": error.message,
            "type": error.row.openai,
            "param": error.field,
        }


class WholeResponse:
    """Gathers an answer into one `response`."""

    def __init__(self, body: ResponsesRequest) -> None:
        self._answer = Answer(body)

    def add(self, _: int, piece: pb.ChatResponse) -> None:
        """Take a piece."""
        for _event in self._answer.take(piece):
            pass

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        self._answer.end()
        return self._answer.fields


class ResponseEvents(Events):
    """Writes an answer as OpenAI's `response` events."""

    def __init__(self, body: ResponsesRequest) -> None:
        self._answer = Answer(body)
        self._number = 0

    def begin(self) -> bytes:
        """Return the events that tell of the response before there is anything of it."""
        return self._state("created") + self._state("in_progress")

    def of(self, _: int, piece: pb.ChatResponse) -> bytes:
        """Return the events of a piece."""
        return b"".join([self._event(kind, fields) for kind, fields in self._answer.take(piece)])

    def end(self) -> bytes:
        """Return the event with the whole response."""
        self._answer.end()
        return self._state(self._answer.fields["status"])

    def failure(self, error: ServiceError) -> bytes:
        """Return the event with what there is of the response, and why there is no more."""
        self._answer.fail(error)
        return self._state("failed")

    def _state(self, name: str) -> bytes:
        return self._event(f"response.{name}", {"response": self._answer.fields})

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _fields_of(body: ResponsesRequest) -> dict[str, Any]:
    """Return the response to a request before there is anything of it."""
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": None,
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": _format(body.text.format if body.text else None)},
        "tool_choice": _tool_choice(body.tool_choice),
        "tools": [_tool(tool) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }


def _format(wanted: TextFormat | None) -> dict[str, Any]:
    if wanted is None or wanted.schema_ is None:
        return {"type": "text" if wanted is None else wanted.type}
    schema = orjson.Fragment(wanted.schema_)
    told = {"name": wanted.name, "description": wanted.description, "schema": schema, "strict": wanted.strict}
    return {"type": wanted.type, **told}


def _tool_choice(choice: ToolChoice | None) -> str | dict[str, str]:
    if choice is None:
        return "auto"
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode


def _tool(tool: FunctionTool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": None if tool.parameters is None else orjson.Fragment(tool.parameters),
        "strict": tool.strict,
    }
