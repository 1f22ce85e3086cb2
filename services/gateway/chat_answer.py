"""The answer of a chat in OpenAI's shapes: whole, or as events."""

from dataclasses import dataclass, field
from typing import Any

import orjson
from flotilla.llm.v1 import llm_pb2 as pb

from services.gateway import logprobs
from services.gateway.answers import FINISH_REASONS, EventFrame, Usage, head
from services.gateway.sse import Events


class ChatEvents(Events):
    """Writes a chat as `chat.completion.chunk` events."""

    def __init__(self, model: str, include_usage: bool) -> None:
        self._frame = EventFrame(head("chatcmpl", "chat.completion.chunk", model), include_usage)
        self._begun: set[int] = set()
        self._usage = Usage()

    def of(self, _: int, piece: pb.ChatResponse) -> bytes:
        """Return the events of a piece: text and tool calls, each answer's role before it and its end after it."""
        if piece.HasField("usage"):
            self._usage.add(piece.usage)
            return b""
        index, events = piece.index, b""
        if index not in self._begun:
            self._begun.add(index)
            content = None if piece.tool_calls else ""
            events += self._event(index, orjson.dumps({"role": "assistant", "content": content, "refusal": None}))
        if piece.text or piece.logprobs:
            likely = _logprobs(piece.logprobs)
            events += self._event(index, b'{"content":' + orjson.dumps(piece.text) + b"}", likely)
        for delta in piece.tool_calls:
            events += self._event(index, orjson.dumps({"tool_calls": [_tool_delta(delta)]}))
        if piece.finish_reason:
            reason = orjson.dumps(FINISH_REASONS[piece.finish_reason])
            events += self._event(index, b"{}", finish_reason=reason)
        return events

    def end(self) -> bytes:
        """Return the event with the usage, where it was asked for."""
        return self._frame.usage(self._usage)

    def _event(self, index: int, delta: bytes, likely: bytes = b"null", finish_reason: bytes = b"null") -> bytes:
        return self._frame.choice(
            b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (index, delta, likely, finish_reason)
        )


def _logprobs(positions: Any) -> bytes:
    if not positions:
        return b"null"
    return orjson.dumps({"content": logprobs.of_chat(positions), "refusal": None})


def _tool_delta(delta: pb.ToolCallDelta) -> dict[str, Any]:
    if not delta.name:
        return {"index": delta.index, "function": {"arguments": delta.arguments}}
    return {
        "index": delta.index,
        "id": delta.id,
        "type": "function",
        "function": {"name": delta.name, "arguments": delta.arguments},
    }


@dataclass(slots=True)
class _Choice:
    """One answer as it grows."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None

    def add_call(self, delta: pb.ToolCallDelta) -> None:
        call = self.calls.setdefault(
            delta.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] += delta.id
        call["function"]["name"] += delta.name
        call["function"]["arguments"] += delta.arguments

    def message(self) -> dict[str, Any]:
        text = "".join(self.text)
        content = text if text or not self.calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self.calls:
            message["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
        return message


class WholeChat:
    """Gathers a chat into one `chat.completion`."""

    def __init__(self, model: str, answers: int, with_logprobs: bool) -> None:
        self._head = head("chatcmpl", "chat.completion", model)
        self._choices = [_Choice() for _ in range(answers)]
        self._with_logprobs = with_logprobs
        self._usage = Usage()

    def add(self, _: int, piece: pb.ChatResponse) -> None:
        """Take a piece."""
        if piece.HasField("usage"):
            self._usage.add(piece.usage)
            return
        choice = self._choices[piece.index]
        choice.text.append(piece.text)
        choice.logprobs += logprobs.of_chat(piece.logprobs)
        for delta in piece.tool_calls:
            choice.add_call(delta)
        choice.finish_reason = FINISH_REASONS[piece.finish_reason] or choice.finish_reason

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        choices = [
            {
                "index": i,
                "message": choice.message(),
                "logprobs": {"content": choice.logprobs, "refusal": None} if self._with_logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for i, choice in enumerate(self._choices)
        ]
        return {**self._head, "choices": choices, "usage": self._usage.body()}
