"""The models in Triton. The only file of the service that knows tensor names, shapes and dtypes.

<name>          the engine, decoupled: continuous batching, paged KV cache, prefix cache
<name>_score    log-probabilities of given tokens and of their alternatives
<name>_grammar  whether the engine can follow a grammar; it runs apart because a bad grammar harms an engine that works
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from services.common.contract import Contract, Tensor
from services.common.errors import Kind, ServiceError
from services.common.manifest import Model
from services.common.triton import TritonClient
from services.llm.settings import LlmSettings

INPUT_IDS, OPTIONS = "input_ids", "options"
OUTPUT_IDS, LOGPROBS, STATE, STATISTICS = "output_ids", "logprobs", "state", "statistics"
TOP_IDS, TOP_LOGPROBS = "top_ids", "top_logprobs"
GRAMMAR, FAULT = "grammar", "fault"

MOST_ALTERNATIVES = 20
CONTINUES, ENDED, LIMITED = 0, 1, 2


def contracts(model: Model) -> dict[str, Contract]:
    """Return the contracts by Triton model name. No model has a batch dimension.

    The engine takes a prompt, input_ids [tokens], and options [bytes], UTF-8 JSON with these keys, all of which may be
    left out: max_new_tokens, min_new_tokens, temperature (0 is greedy), top_p, top_k, min_p, frequency_penalty,
    presence_penalty, repetition_penalty, seed, ignore_eos, logprobs (bool), grammar (EBNF). It streams output_ids
    [new tokens], without the token that ended the answer; logprobs [new tokens], natural, of the raw distribution,
    zeros where not asked for; state [finish, cached]: finish 0 while it goes on, 1 when the model ended, 2 when a limit
    did, cached the prompt tokens that came from the prefix cache. A request with no input_ids gets one response with
    the statistics [running, waiting, KV cache in use 0..1, prompt tokens, cached prompt tokens, generated tokens,
    cancelled requests, steps], of which the last five count from the start; the others get statistics [0].

    The scorer takes input_ids [tokens] and returns logprobs [tokens], of each token after those before it (0 for the
    first), and the most likely tokens in its place: top_ids and top_logprobs [tokens, 20], best first.

    The grammar model takes grammar [bytes], EBNF in UTF-8, and returns fault [bytes], UTF-8: what is wrong with it,
    empty when nothing is.
    """
    ids, text = Tensor("INT32", (-1,)), Tensor("UINT8", (-1,))
    per_token = Tensor("FP32", (-1,))
    alternatives = (-1, MOST_ALTERNATIVES)
    return {
        model.triton_name: Contract(
            {INPUT_IDS: ids, OPTIONS: text},
            {OUTPUT_IDS: ids, LOGPROBS: per_token, STATE: Tensor("INT32", (2,)), STATISTICS: per_token},
        ),
        f"{model.triton_name}_score": Contract(
            {INPUT_IDS: ids},
            {
                LOGPROBS: per_token,
                TOP_IDS: Tensor("INT32", alternatives),
                TOP_LOGPROBS: Tensor("FP32", alternatives),
            },
        ),
        f"{model.triton_name}_grammar": Contract({GRAMMAR: text}, {FAULT: text}),
    }


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of the engine adds to an answer."""

    ids: list[int]
    logprobs: list[float]
    """Of each new token, where asked for."""
    finish: int
    """CONTINUES, ENDED or LIMITED."""
    cached: int
    """Prompt tokens that came from the prefix cache."""
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    """For each new token the most likely in its place, best first, where the engine gives them."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The state of the engine; what is not now counts from its start."""

    running: float = 0
    waiting: float = 0
    kv_cache: float = 0
    prompt_tokens: float = 0
    cached_tokens: float = 0
    generated_tokens: float = 0
    cancelled: float = 0
    steps: float = 0


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-probabilities of given tokens: of each [n], and of the most likely in its place, ids and values [n, 20]."""

    logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


class LanguageModel:
    """One language model in Triton: engine, scorer, grammar check."""

    gives_alternatives = False
    """Whether the option top_logprobs makes the engine give the alternatives to each token; else the scorer does."""
    is_exact = True
    """Whether the engine computes as the export did, up to the tolerance of its self-test."""

    def __init__(self, triton: TritonClient, name: str, settings: LlmSettings) -> None:
        """`name` is the engine's in Triton."""
        self._triton, self.name, self._settings = triton, name, settings
        self._scoring = asyncio.Lock()  # one pass at a time, so that its time-out is its own

    async def generate(
        self, ids: Sequence[int], options: Mapping[str, Any], timeout: float | None
    ) -> AsyncGenerator[Step, None]:
        """Yield the steps of one answer. Closing the generator cancels it in the engine. Raises ServiceError."""
        wanted = [OUTPUT_IDS, STATE, *([LOGPROBS] if options.get("logprobs") else [])]
        async with aclosing(self._stream(ids, options, wanted, timeout)) as responses:
            async for response in responses:
                finish, cached = response[STATE].tolist()
                logprobs = response[LOGPROBS].tolist() if LOGPROBS in response else []
                yield Step(response[OUTPUT_IDS].tolist(), logprobs, finish, cached)

    async def statistics(self) -> Statistics:
        """Return the state of the engine. Raises ServiceError; one that does not answer in time is restarted."""
        try:
            return await self._statistics()
        except ServiceError as fault:
            if fault.kind is Kind.DEADLINE_EXCEEDED:
                seconds = self._settings.engine_silence_seconds
                self._triton.report_hang(f"the engine has not answered for {seconds:g} s")
            raise

    async def _statistics(self) -> Statistics:
        async with aclosing(self._stream((), {}, [STATISTICS], self._settings.engine_silence_seconds)) as responses:
            async for response in responses:
                return Statistics(*response[STATISTICS].tolist())
        raise ServiceError(Kind.UNAVAILABLE, "the engine gave no statistics")

    async def score(self, ids: Sequence[int]) -> Scores:
        """Return the log-probabilities of `ids`. Raises ServiceError."""
        tokens = {INPUT_IDS: np.array(ids, dtype=np.int32)}
        names = [LOGPROBS, TOP_IDS, TOP_LOGPROBS]
        async with self._scoring:
            found = await self._triton.infer(f"{self.name}_score", tokens, names, self._settings.score_timeout_seconds)
        return Scores(*(found[name] for name in names))

    async def grammar_fault(self, grammar: str) -> str:
        """Return what is wrong with a grammar in EBNF, nothing when the engine can follow it. Raises ServiceError."""
        found = await self._triton.infer(
            f"{self.name}_grammar", {GRAMMAR: _bytes(grammar)}, [FAULT], self._settings.grammar_timeout_seconds
        )
        return found[FAULT].tobytes().decode(errors="replace")

    def _stream(
        self, ids: Sequence[int], options: Mapping[str, Any], outputs: list[str], timeout: float | None
    ) -> AsyncGenerator[dict[str, NDArray[Any]], None]:
        inputs: dict[str, NDArray[Any]] = {
            INPUT_IDS: np.array(ids, dtype=np.int32),
            OPTIONS: _bytes(json.dumps(options)),
        }
        return cast(
            "AsyncGenerator[dict[str, NDArray[Any]], None]", self._triton.stream(self.name, inputs, outputs, timeout)
        )


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
