"""The engine on Triton's vLLM backend. Beside model.py the only file that knows tensor names: those are the backend's.

Interface: https://github.com/triton-inference-server/vllm_backend, src/model.py and docs/additional_outputs.md.
Scorer and grammar check stay what they are in every profile.
"""

import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from services.common.contract import Contract, Tensor
from services.common.errors import Kind, ServiceError, invalid
from services.common.triton import TritonClient, service_pb2
from services.llm.engine_statistics import engine_died
from services.llm.model import CONTINUES, ENDED, LIMITED, LanguageModel, Statistics, Step
from services.llm.settings import LlmSettings
from services.llm.vllm_spelling import Spelling

BACKEND = "vllm"
TEXT_INPUT, STREAM, SAMPLING = "text_input", "stream", "sampling_parameters"
LOGPROBS, FINISH, INPUT_TOKENS = "logprobs", "finish_reason", "num_input_tokens"
_FLAGS = ("return_finish_reason", "return_logprobs", "return_num_input_tokens")
_FINISHES = {"None": CONTINUES, "stop": ENDED, "length": LIMITED}
_SEEDS = 2**63
_SIGNS_OF_A_DEAD_ENGINE = ("unhealthy vLLM engine", "EngineCore", "EngineDead", "engine is dead")
_NAMES = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
_log = logging.getLogger(__name__)


def contract() -> Contract:
    """Return the contract of vLLM's backend; there is no batch dimension, and all inputs but text_input are optional.

    text_input [1] is the prompt in the engine's spelling (vllm_spelling.py); stream [1] must be true, for tokens as
    they come; sampling_parameters [1] is UTF-8 JSON of vLLM's SamplingParams; return_... [1] ask for outputs. A
    response has, for the one answer: finish_reason [1], "None", "stop" or "length"; logprobs [1], JSON: for each new
    token a mapping of id to {logprob, rank, decoded_token}, the chosen token first; num_input_tokens, the prompt's.
    """
    text, flag = Tensor("BYTES", (1,)), Tensor("BOOL", (1,))
    flags = (STREAM, "exclude_input_in_output", *_FLAGS, "return_cumulative_logprob", "return_num_output_tokens")
    texts = Tensor("BYTES", (-1,))
    return Contract(
        {TEXT_INPUT: text, SAMPLING: text} | dict.fromkeys(flags, flag),
        {
            "text_output": texts,
            FINISH: texts,
            "cumulative_logprob": Tensor("FP32", (-1,)),
            LOGPROBS: texts,
            INPUT_TOKENS: Tensor("UINT32", (1,)),
            "num_output_tokens": Tensor("UINT32", (-1,)),
        },
    )


def sampling_parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return vLLM's SamplingParams for options of the engine's contract (model.py).

    The answer's ids come with the log-probabilities, so those are always asked for; the text is the service's to make.
    Every constraint is a grammar already. JSON inside JSON is how the backend takes structured_outputs.
    """
    plain = {_NAMES.get(name, name): value for name, value in options.items()}
    grammar, top = plain.pop("grammar", None), plain.pop("top_logprobs", 0)
    if "seed" in plain:
        plain["seed"] %= _SEEDS  # a torch generator's is signed
    if grammar is not None:
        plain["structured_outputs"] = json.dumps({"grammar": grammar})
    return {**plain, "logprobs": top, "detokenize": False}


@dataclass(slots=True)
class _Counts:
    """What this service has the engine do: the backend reports neither its queue nor its KV cache."""

    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    cancelled: int = 0
    steps: int = 0


class VllmModel(LanguageModel):
    """One language model whose engine is vLLM: its steps carry the alternatives to each token, too."""

    gives_alternatives = True
    is_exact = False

    def __init__(
        self, triton: TritonClient, name: str, settings: LlmSettings, spelling: Spelling, ends: Sequence[int]
    ) -> None:
        """`ends` are the tokens that end an answer."""
        super().__init__(triton, name, settings)
        self._spelling, self._ends = spelling, frozenset(ends)
        self._counts, self._heard = _Counts(), time.monotonic()

    async def generate(
        self, ids: Sequence[int], options: Mapping[str, Any], timeout: float | None
    ) -> AsyncGenerator[Step, None]:
        """Yield the steps of one answer. Closing the generator cancels it in the engine. Raises ServiceError.

        The backend does not say which prompt tokens came from its prefix cache: `cached` is 0.
        """
        top = int(options.get("top_logprobs", 0))
        inputs = self._inputs(ids, options)
        async with aclosing(self._counted(self._responses(inputs, options, timeout), len(ids))) as responses:
            async for response in responses:
                if int(response[INPUT_TOKENS].reshape(-1)[0]) != len(ids):
                    raise ServiceError(Kind.INTERNAL, "the engine read another prompt than it was given")
                step = self._step(response, top)
                self._counts.generated_tokens += len(step.ids)
                yield step

    async def _statistics(self) -> Statistics:
        """Count for the engine; it counts as dead when it is unloaded, or open streams get nothing for too long."""
        silence, counts = self._settings.engine_silence_seconds, self._counts
        if counts.running + counts.waiting == 0:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > silence:
            self._heard = time.monotonic()
            raise ServiceError(Kind.DEADLINE_EXCEEDED, f"nothing came from the engine for {silence:g} s")
        request = service_pb2.ModelReadyRequest(name=self.name)
        if not (await self._triton.call("ModelReady", request, silence)).ready:
            self._triton.report_hang("the vLLM backend has unloaded its engine")  # as it does with one that is dead
            raise engine_died()
        return Statistics(**asdict(counts))

    def _inputs(self, ids: Sequence[int], options: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        flags = dict.fromkeys((STREAM, *_FLAGS), np.array([True]))
        parameters = json.dumps(sampling_parameters(options))
        return {TEXT_INPUT: _text(self._spelling.spell(ids)), SAMPLING: _text(parameters), **flags}

    async def _responses(
        self, inputs: Mapping[str, NDArray[Any]], options: Mapping[str, Any], timeout: float | None
    ) -> AsyncGenerator[dict[str, NDArray[Any]], None]:
        wanted = (LOGPROBS, FINISH, INPUT_TOKENS)
        stream = cast(
            "AsyncGenerator[dict[str, NDArray[Any]], None]", self._triton.stream(self.name, inputs, wanted, timeout)
        )
        async with aclosing(stream):
            try:
                async for response in stream:
                    yield response
            except ServiceError as fault:
                self._explain(fault, constrained="grammar" in options)

    async def _counted(
        self, responses: AsyncGenerator[dict[str, NDArray[Any]], None], prompt: int
    ) -> AsyncGenerator[dict[str, NDArray[Any]], None]:
        """Pass the responses of one answer on and keep the counts."""
        counts, began, ended = self._counts, False, False
        self._heard = time.monotonic() if counts.running + counts.waiting == 0 else self._heard
        counts.waiting += 1
        try:
            async with aclosing(responses):
                async for response in responses:
                    self._heard, counts.steps = time.monotonic(), counts.steps + 1
                    if not began:
                        began, counts.waiting, counts.running = True, counts.waiting - 1, counts.running + 1
                        counts.prompt_tokens += prompt
                    yield response
            ended = True
        except ServiceError:
            ended = True
            raise
        finally:
            counts.running, counts.waiting = counts.running - began, counts.waiting - (not began)
            counts.cancelled += not ended

    def _step(self, response: Mapping[str, NDArray[Any]], top: int) -> Step:
        reason = response[FINISH].reshape(-1)[0].decode()
        if reason not in _FINISHES:
            raise ServiceError(
                Kind.UNAVAILABLE, f"the engine gave the answer up: {reason}", code="engine_unavailable", retry_after=2.0
            )
        finish = _FINISHES[reason]
        entries: list[dict[str, dict[str, Any]]] = json.loads(response[LOGPROBS].reshape(-1)[0]) or []
        ids = [int(next(iter(entry))) for entry in entries]
        if finish == ENDED and ids and ids[-1] in self._ends:
            ids.pop()
        entries = entries[: len(ids)]
        logprobs = [float(entry[str(number)]["logprob"]) for number, entry in zip(ids, entries, strict=True)]
        return Step(ids, logprobs, finish, 0, [_best(entry, top) for entry in entries] if top else [])

    def _explain(self, fault: ServiceError, *, constrained: bool) -> NoReturn:
        """Raise what a fault of the backend means to our caller."""
        if any(sign in fault.message for sign in _SIGNS_OF_A_DEAD_ENGINE):
            _log.error("the engine of %s died: %s", self.name, fault)
            self._triton.report_hang("the vLLM engine died")
            raise engine_died() from fault
        if constrained and fault.kind is Kind.INTERNAL and "grammar" in fault.message.lower():
            raise invalid("format", f"format: the engine cannot follow it: {fault.message}") from fault
        raise fault


def _best(entry: Mapping[str, Mapping[str, Any]], top: int) -> list[tuple[int, float]]:
    """Return the most likely tokens in one place, best first: the chosen one comes beside them where it is none."""
    found = [(int(number), float(value["logprob"])) for number, value in entry.items()]
    return sorted(found, key=lambda one: -one[1])[:top]


def _text(text: str) -> NDArray[np.object_]:
    return np.array([text.encode()], dtype=np.object_)
