"""What is done with a model before it serves: known input, and full batches to learn what it sustains."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from services.common.load import Load
from services.common.server import StartupError
from services.llm.model import LanguageModel

WARM_UP_PROMPT, WARM_UP_ANSWER = 8, 16
ROUNDED = 0.5
"""Tolerance in nats for an engine that computes in bfloat16."""
_GRAMMAR = 'root ::= "a" | "b"\n'


async def prove(model: LanguageModel, selftest: str) -> None:
    """Run the known prompts of the export's selftest.json (its content) and compare ids and log-probabilities.

    Raises StartupError when anything is off.
    """
    document = json.loads(selftest)
    for case in document["cases"]:
        expected, tolerance = case["output_ids"], document["tolerance"]
        options = {"max_new_tokens": len(expected), "temperature": 0, "logprobs": True, "ignore_eos": True}
        ids, logprobs = await _answer(model, case["prompt_ids"], options)
        scores = (await model.score([*case["prompt_ids"], *expected])).logprobs[len(case["prompt_ids"]) :].tolist()
        _compare(f"the scorer of '{model.name}'", scores, case["logprobs"], tolerance)
        if model.is_exact:
            _compare(f"the engine of '{model.name}'", logprobs, case["logprobs"], tolerance)
            _compare_ids(model.name, ids, expected)
        else:
            _compare_rounded(model.name, ids, logprobs, case)
    fault = await model.grammar_fault(_GRAMMAR)
    if fault or len((await _answer(model, [1], {"max_new_tokens": 4, "grammar": _GRAMMAR}))[0]) != 1:
        raise StartupError(f"self-test: the engine of '{model.name}' does not follow a grammar: {fault}")


async def warm_up(model: LanguageModel, slots: int, load: Load) -> None:
    """Fill every slot of the engine and tell `load` how many tokens a second that makes."""
    options = {"max_new_tokens": WARM_UP_ANSWER, "ignore_eos": True, "temperature": 0}
    prompts = [[5 + slot] * WARM_UP_PROMPT for slot in range(slots)]
    began = time.monotonic()
    await asyncio.gather(*(_answer(model, prompt, options) for prompt in prompts))
    load.worked(slots * (WARM_UP_PROMPT + WARM_UP_ANSWER), (time.monotonic() - began) * load.slots)


async def _answer(
    model: LanguageModel, prompt: Sequence[int], options: dict[str, Any]
) -> tuple[list[int], list[float]]:
    ids: list[int] = []
    logprobs: list[float] = []
    async for step in model.generate(prompt, options, None):
        ids += step.ids
        logprobs += step.logprobs
    return ids, logprobs


def _compare_ids(name: str, ids: Sequence[int], expected: Sequence[int]) -> None:
    if list(ids) != list(expected):
        raise StartupError(f"self-test: the engine of '{name}' answers otherwise than the original")


def _compare_rounded(name: str, ids: Sequence[int], logprobs: Sequence[float], case: dict[str, Any]) -> None:
    """Hold an engine that rounds to the expected answer, up to where it takes another token that is as likely.

    From there on it follows a text of its own, which says nothing.
    """
    expected = case["output_ids"]
    same = next((i for i, (one, other) in enumerate(zip(ids, expected, strict=False)) if one != other), len(expected))
    _compare(f"the engine of '{name}'", logprobs[: same + 1], case["logprobs"][: same + 1], ROUNDED)
    if not same:
        _compare_ids(name, ids[:1], expected[:1])


def _compare(what: str, found: Sequence[float], expected: Sequence[float], tolerance: float) -> None:
    difference = max((abs(one - other) for one, other in zip(found, expected, strict=False)), default=0.0)
    if len(found) != len(expected) or not difference <= tolerance:
        raise StartupError(f"self-test: {what} is off by {difference:.3f} in a log-probability")
