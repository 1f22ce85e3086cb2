"""The answer of a completion in OpenAI's shapes: whole, or as events."""

from dataclasses import dataclass, field
from typing import Any

import orjson
from flotilla.llm.v1 import llm_pb2 as pb

from services.gateway.answers import FINISH_REASONS, EventFrame, Usage, head
from services.gateway.logprobs import CompletionLogprobs
from services.gateway.sse import Events


class CompletionEvents(Events):
    """Writes completions as `text_completion` events."""

    def __init__(self, model: str, answers: int, include_usage: bool) -> None:
        """`answers` is how many each prompt gets."""
        self._frame = EventFrame(head("cmpl", "text_completion", model), include_usage)
        self._answers = answers
        self._logprobs: dict[int, CompletionLogprobs] = {}
        self._usage = Usage()

    def of(self, call: int, piece: pb.GenerateResponse) -> bytes:
        """Return the events of a piece: its text, and after it the end of the answer."""
        if piece.HasField("usage"):
            self._usage.add(piece.usage)
            return b""
        index, events = call * self._answers + piece.index, b""
        if piece.text or piece.logprobs:
            likely = b"null"
            if piece.logprobs:
                writer = self._logprobs.setdefault(index, CompletionLogprobs())
                likely = orjson.dumps(writer.of(piece.logprobs))
            events += self._event(index, orjson.dumps(piece.text), likely)
        if piece.finish_reason:
            reason = orjson.dumps(FINISH_REASONS[piece.finish_reason])
            events += self._event(index, b'""', finish_reason=reason)
        return events

    def end(self) -> bytes:
        """Return the event with the usage, where it was asked for."""
        return self._frame.usage(self._usage)

    def _event(self, index: int, text: bytes, likely: bytes = b"null", finish_reason: bytes = b"null") -> bytes:
        return self._frame.choice(
            b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}' % (index, text, likely, finish_reason)
        )


@dataclass(slots=True)
class _Choice:
    """One answer as it grows."""

    text: list[str] = field(default_factory=list)
    positions: list[pb.PositionLogprobs] = field(default_factory=list)
    finish_reason: str | None = None


class WholeCompletion:
    """Gathers completions into one `text_completion`."""

    def __init__(self, model: str, prompts: int, answers: int, with_logprobs: bool) -> None:
        """`answers` is how many each prompt gets."""
        self._head = head("cmpl", "text_completion", model)
        self._answers, self._with_logprobs = answers, with_logprobs
        self._choices = [_Choice() for _ in range(prompts * answers)]
        self._usage = Usage()

    def add(self, call: int, piece: pb.GenerateResponse) -> None:
        """Take a piece."""
        if piece.HasField("usage"):
            self._usage.add(piece.usage)
            return
        choice = self._choices[call * self._answers + piece.index]
        choice.text.append(piece.text)
        choice.positions.extend(piece.logprobs)
        choice.finish_reason = FINISH_REASONS[piece.finish_reason] or choice.finish_reason

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        choices = [
            {
                "index": i,
                "text": "".join(choice.text),
                "logprobs": CompletionLogprobs().of(choice.positions) if self._with_logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for i, choice in enumerate(self._choices)
        ]
        return {**self._head, "choices": choices, "usage": self._usage.body()}
