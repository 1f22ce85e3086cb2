"""The answers to one call: admitted, generated side by side, and put together as one stream of pieces."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from services.common.admission import Admission
from services.common.errors import Kind, ServiceError
from services.llm.answer import Answer, Finish, Piece, Token
from services.llm.engine_statistics import EngineWatch
from services.llm.grammars import Grammars
from services.llm.instruments import CallRecord, Instruments
from services.llm.model import LIMITED, LanguageModel
from services.llm.output_format import Constraint, OverrunError
from services.llm.sampling import Sampling
from services.llm.scoring import score_prompt, with_alternatives, without_alternatives
from services.llm.tokenizer import TextTokenizer

_log = logging.getLogger(__name__)
_FIRST_GUESS, _NEWEST_WEIGHT = 128.0, 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """A call that is in order."""

    operation: str
    """chat or text_completion."""
    prompt: list[int]
    sampling: Sampling
    constraint: Constraint | None = None
    with_calls: bool = False
    echo: str | None = None
    """The prompt's text, where it is sent first."""
    user: str = ""


@dataclass(slots=True)
class Generator:
    """Answers calls with one model."""

    id: str
    """Public model id."""
    model: LanguageModel
    tokenizer: TextTokenizer
    watch: EngineWatch
    grammars: Grammars
    admission: Admission
    instruments: Instruments
    _usual_length: float = _FIRST_GUESS
    """Tokens of an answer, for the cost of the next."""

    async def pieces(self, plan: Plan, context: Any, record: CallRecord) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of all answers. Closing it, or the end of any answer by a fault, cancels them all."""
        record.prompt_tokens, record.sampling = len(plan.prompt), plan.sampling
        call = _Call(plan, context, record)
        tasks = [asyncio.create_task(self._run(call, index)) for index in range(plan.sampling.n)]
        try:
            async with aclosing(call.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _run(self, call: "_Call", index: int) -> None:
        """Make one answer; what it fails with ends the call."""
        try:
            await self._answer(call, index)
        except Exception as error:
            call.out.put_nowait(error)
        finally:
            call.begun.set()

    async def _answer(self, call: "_Call", index: int) -> None:
        plan, sampling = call.plan, call.plan.sampling
        answer = Answer(index, self.tokenizer, sampling.stop, plan.with_calls)
        cost = min(self._usual_length, sampling.max_tokens) + (0 if index else len(plan.prompt))
        async with self.admission.admit_call(cost, call.context, plan.user):
            if index:
                await call.begun.wait()  # the first reads the prompt; the others find it in the prefix cache
            else:
                await self._prepare(call)
            if call.echo is not None:
                call.out.put_nowait(Piece(index, call.echo[0], tokens=list(call.echo[1])))
            limited = True
            if sampling.max_tokens:
                limited = await self._generate(call, answer)
        self._finish(call, answer, limited)

    async def _prepare(self, call: "_Call") -> None:
        plan, sampling = call.plan, call.plan.sampling
        if plan.constraint is not None:
            await self.grammars.check(plan.constraint)
        if plan.echo is not None:
            scored = sampling.logprobs and plan.prompt
            tokens = (
                await score_prompt(self.model, plan.prompt, sampling.top_logprobs)
                if scored
                else [Token(number) for number in plan.prompt]
            )
            call.echo = plan.echo, tokens

    async def _generate(self, call: "_Call", answer: Answer) -> bool:
        """Generate the answer, piece by piece, but for its last. Return whether it ran into a limit of tokens."""
        try:
            async with self.watch.alive():
                return await self._follow(call, answer)
        except asyncio.CancelledError:
            self.instruments.cancelled(self.id)
            self.instruments.wasted(self.id, "cancelled", answer.generated)
            raise
        finally:
            call.record.completion_tokens += answer.generated

    async def _follow(self, call: "_Call", answer: Answer) -> bool:
        plan, record, began = call.plan, call.record, 0.0
        grammar = plan.constraint.grammar if plan.constraint else None
        native = self.model.gives_alternatives
        options = plan.sampling.options(answer.index, grammar, alternatives=native)
        steps = self.model.generate(plan.prompt, options, call.context.time_remaining())
        top, limited = 0 if native else plan.sampling.top_logprobs, False
        stream = with_alternatives(self.model, plan.prompt, steps, top) if top else without_alternatives(steps)
        async with aclosing(stream):
            async for step, tokens in stream:
                if not began:
                    began = time.monotonic()
                    record.token_came()
                    record.cached_tokens = max(record.cached_tokens, step.cached)
                    call.begun.set()
                call.send(answer.feed(tokens))
                limited = step.finish == LIMITED
                if answer.stopped:
                    break
        if not top:  # else they came in bursts
            self.instruments.answered(record, began, answer.generated)
        return limited

    def _finish(self, call: "_Call", answer: Answer, limited: bool) -> None:
        """Send the last piece, after the check of the answer where it ended by itself."""
        piece = answer.end(limited)
        if call.plan.constraint is not None and piece.finish is not Finish.LENGTH:
            piece.finish = self._checked(call.plan.constraint, "".join(answer.text), piece.finish)
        if answer.stopped:
            self.instruments.wasted(self.id, "stop", answer.generated - answer.sent)
        self._usual_length += _NEWEST_WEIGHT * (answer.generated - self._usual_length)
        assert piece.finish is not None  # noqa: S101  # it is the last
        call.record.finishes.append(piece.finish)
        call.send(piece)

    def _checked(self, constraint: Constraint, text: str, finish: Finish | None) -> Finish | None:
        try:
            constraint.check(text)
        except OverrunError:
            return Finish.LENGTH
        except RecursionError:
            return finish  # deeper than Python reads
        except ValueError as error:
            self.instruments.invalid_answer(self.id)
            _log.error("an answer of %s broke its constraint %s: %s", self.id, constraint.field, error)
            raise ServiceError(Kind.INTERNAL, f"the answer broke the constraint of {constraint.field}") from None
        return finish


class _Call:
    """What the answers of one call share."""

    def __init__(self, plan: Plan, context: Any, record: CallRecord) -> None:
        self.plan, self.context, self.record = plan, context, record
        self.begun = asyncio.Event()
        self.echo: tuple[str, list[Token]] | None = None
        self.out: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._silent: dict[int, Piece] = {}  # tokens that wait for their text

    def send(self, piece: Piece) -> None:
        """Send a piece once there is something to see."""
        if (before := self._silent.pop(piece.index, None)) is not None:
            before.add(piece)
            piece = before
        if piece.text or piece.calls or piece.finish:
            self.out.put_nowait(piece)
        elif piece.tokens:
            self._silent[piece.index] = piece

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Yield the pieces until all answers have ended; what has piled up of one answer goes as one."""
        running = self.plan.sampling.n
        while running:
            found, fault = self._gather(await self.out.get())
            for piece in found:
                running -= piece.finish is not None
                yield piece
            if fault is not None:
                raise fault

    def _gather(self, first: Piece | Exception) -> tuple[list[Piece], Exception | None]:
        pieces: dict[int, Piece] = {}
        item: Piece | Exception = first
        while not isinstance(item, Exception):
            if item.index in pieces:
                pieces[item.index].add(item)
            else:
                pieces[item.index] = item
            if self.out.empty():
                return list(pieces.values()), None
            item = self.out.get_nowait()
        return list(pieces.values()), item
