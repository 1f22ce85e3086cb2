"""Log-probabilities by the scoring model: of a prompt, and the alternatives to every token of an answer as it grows.

An answer is scored in bursts of doubling length, so that it streams on and the passes over it stay few.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.llm.answer import Token
from services.llm.model import LanguageModel, Scores, Step

FIRST_BURST = 8


async def score_prompt(model: LanguageModel, ids: Sequence[int], top: int) -> list[Token]:
    """Return the tokens of a prompt with their log-probabilities; the first has none."""
    scores = await model.score(ids)
    return [Token(ids[0]), *_tokens(scores, ids, 1, top)]


async def with_alternatives(
    model: LanguageModel, prompt: Sequence[int], steps: AsyncGenerator[Step, None], top: int
) -> AsyncGenerator[tuple[Step, list[Token]], None]:
    """Yield the steps of an answer in bursts, each as one step, with its tokens and their `top` alternatives."""
    ids, burst = list(prompt), FIRST_BURST
    waiting: list[int] = []
    async with aclosing(steps):
        async for step in steps:
            waiting += step.ids
            if len(waiting) < burst and not step.finish:
                continue
            ids += waiting
            # All tokens but the last are the context; the pass needs the last too, to say how likely it was.
            tokens = _tokens(await model.score(ids), ids, len(ids) - len(waiting), top) if waiting else []
            yield Step(waiting, [], step.finish, step.cached), tokens
            waiting, burst = [], 2 * burst


async def without_alternatives(
    steps: AsyncGenerator[Step, None],
) -> AsyncGenerator[tuple[Step, list[Token]], None]:
    """Yield the steps of an answer as they are, with their tokens."""
    async with aclosing(steps):
        async for step in steps:
            if step.logprobs:
                top = step.top or [[]] * len(step.ids)
                yield step, [Token(i, p, t) for i, p, t in zip(step.ids, step.logprobs, top, strict=True)]
            else:
                yield step, [Token(i) for i in step.ids]


def _tokens(scores: Scores, ids: Sequence[int], start: int, top: int) -> list[Token]:
    best_ids, best = scores.top_ids[start:, :top].tolist(), scores.top_logprobs[start:, :top].tolist()
    logprobs = scores.logprobs[start:].tolist()
    return [
        Token(number, logprob, list(zip(row_ids, row, strict=True)))
        for number, logprob, row_ids, row in zip(ids[start:], logprobs, best_ids, best, strict=True)
    ]
