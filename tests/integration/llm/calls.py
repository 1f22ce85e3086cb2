"""Calls of the LLM service, and what they come to."""

from dataclasses import dataclass, field
from typing import Any

from flotilla.llm.v1 import llm_pb2 as pb

MODEL = "smollm2-135m-instruct"


@dataclass
class Answered:
    """One answer put together."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[pb.PositionLogprobs] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)
    """Id, name and arguments of each call."""
    finish: int = 0


async def collect(stream: Any) -> tuple[list[Answered], pb.Usage]:
    """Return all answers of a call and its usage."""
    answers: dict[int, Answered] = {}
    usage = None
    async for message in stream:
        assert usage is None, "the usage is in the last message"
        if message.HasField("usage"):
            usage = message.usage
            continue
        answer = answers.setdefault(message.index, Answered())
        assert not answer.finish, "the finish reason is in the last piece"
        answer.text += message.text
        answer.tokens += message.tokens
        answer.logprobs += message.logprobs
        answer.finish = message.finish_reason
        for delta in getattr(message, "tool_calls", ()):
            call = answer.calls.setdefault(delta.index, [delta.id, delta.name, ""])
            call[2] += delta.arguments
    assert usage is not None
    return [answers[index] for index in sorted(answers)], usage


def completion(text: str, /, format: pb.OutputFormat | None = None, echo: bool = False, **sampling: Any) -> Any:  # noqa: A002
    return pb.GenerateRequest(text=text, format=format, echo=echo, sampling=pb.Sampling(**sampling))


def conversation(text: str, /, sampling: pb.Sampling | None = None, **fields: Any) -> pb.ChatRequest:
    message = pb.Message(role=pb.ROLE_USER, content=text)
    return pb.ChatRequest(messages=[message], sampling=sampling, **fields)
