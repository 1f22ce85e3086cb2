"""Requests to plans: everything about a call is checked and tokenised here, before anything is computed."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import invalid
from services.common.manifest import LlmFacts
from services.llm import tool_calls
from services.llm.chat_template import ChatTemplate
from services.llm.conversation import read_messages
from services.llm.generation import Plan
from services.llm.output_format import Constraint, read_format
from services.llm.sampling import Sampling, read_sampling, too_long
from services.llm.tokenizer import TextTokenizer
from services.llm.tools import read_tools

COMPLETION_TOKENS = 16
# So many bytes take about a millisecond; more goes to a thread.
INLINE_BYTES = 4_000
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes the plans for one model."""

    facts: LlmFacts
    tokenizer: TextTokenizer
    template: ChatTemplate | None
    most_characters: int

    async def generate(self, request: pb.GenerateRequest) -> Plan:
        """Return the plan of a completion. Raises INVALID_ARGUMENT that names the field."""
        field = request.WhichOneof("prompt")
        if field is None:
            raise invalid("prompt", "prompt: one of text and tokens must be set")
        prompt = await self._prompt(field, request)
        sampling = self._sampling(field, prompt, request.sampling, COMPLETION_TOKENS, none_allowed=request.echo)
        constraint = await _inline(request.format.ByteSize(), lambda: _read_format(request.format))
        if constraint is not None:
            _check_constrained(sampling, "format")
        echo = None
        if request.echo:
            echo = request.text if field == "text" else self.tokenizer.decode(prompt)
            if sampling.logprobs and sampling.max_tokens == 1 and constraint is None:
                # Harnesses score a prompt this way and count on an entry for the one new token, even if it is the end.
                sampling = dataclasses.replace(sampling, ignore_eos=True)
        return Plan("text_completion", prompt, sampling, constraint, echo=echo, user=request.user)

    async def chat(self, request: pb.ChatRequest) -> Plan:
        """Return the plan of a chat. Raises INVALID_ARGUMENT that names the field."""
        prompt = await self.conversation(request)
        context = self.facts.context_length
        sampling = self._sampling("messages", prompt, request.sampling, context)
        constraint = await _inline(request.format.ByteSize(), lambda: _read_format(request.format))
        use = read_tools(request)
        if constraint is not None and use.allowed:
            raise invalid("format", "format cannot be combined with tools; set tool_choice to none, or leave one out")
        if constraint is not None or use.forced:
            _check_constrained(sampling, "format" if constraint else "tool_choice")
        if use.allowed:
            constraint = await _inline(request.ByteSize(), lambda: tool_calls.constraint(use))
        return Plan("chat", prompt, sampling, constraint, with_calls=bool(use.allowed), user=request.user)

    async def conversation(self, request: pb.ChatRequest) -> list[int]:
        """Return the token ids of a conversation through the chat template."""
        template = self.template
        if template is None:
            raise invalid("messages", "messages: this model has no chat template; use Generate")
        messages = read_messages(request.messages, self.most_characters)
        use = read_tools(request)
        return await _inline(request.ByteSize(), lambda: template.encode(messages, use.shown))

    async def text(self, field: str, text: str) -> list[int]:
        """Return the token ids of a text, with the begin-of-text token where the model has one."""
        if len(text) > self.most_characters:
            raise invalid(field, f"{field} has {len(text)} characters; the limit is {self.most_characters}")
        begin = [] if self.facts.bos_token_id is None else [self.facts.bos_token_id]
        return begin + await _inline(len(text), lambda: self.tokenizer.encode(text))

    async def _prompt(self, field: str, request: pb.GenerateRequest) -> list[int]:
        if field == "text":
            prompt = await self.text(field, request.text)
        else:
            prompt = list(request.tokens.ids)
            self._check_length("tokens", prompt)
            self.tokenizer.check_ids("tokens.ids", prompt)
        if not prompt:
            raise invalid(field, f"{field} is empty; give at least one token")
        return prompt

    def _sampling(
        self, field: str, prompt: Sequence[int], request: pb.Sampling, default: int, *, none_allowed: bool = False
    ) -> Sampling:
        self._check_length(field, prompt)
        room = self.facts.context_length - len(prompt)
        sampling = read_sampling(request, room, default, none_allowed=none_allowed)
        if not sampling.max_tokens and not none_allowed:
            raise too_long(len(prompt), 1, self.facts.context_length, field)
        if sampling.max_tokens > room:
            raise too_long(len(prompt), sampling.max_tokens, self.facts.context_length, "sampling.max_tokens")
        return sampling

    def _check_length(self, field: str, prompt: Sequence[int]) -> None:
        if len(prompt) > self.facts.context_length:
            raise too_long(len(prompt), 0, self.facts.context_length, field)


def _check_constrained(sampling: Sampling, what: str) -> None:
    """Refuse what would end an answer before its constraint does, or after."""
    for name in ("stop", "ignore_eos", "min_tokens"):
        if getattr(sampling, name):
            field = f"sampling.{name}"
            raise invalid(field, f"{field} cannot be combined with {what}, which says where the answer ends")


def _read_format(format_: pb.OutputFormat) -> Constraint | None:
    return _remembered_format(format_.SerializeToString(deterministic=True))


@lru_cache(maxsize=256)
def _remembered_format(serialised: bytes) -> Constraint | None:
    return read_format(pb.OutputFormat.FromString(serialised))


async def _inline(size: int, work: Callable[[], _Result]) -> _Result:
    """Do `work` here when its input is small, in a thread otherwise."""
    return work() if size <= INLINE_BYTES else await asyncio.to_thread(work)
