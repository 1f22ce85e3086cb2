"""Sampling parameters: read from a request, checked against the ranges of the contract, given to the engine."""

import dataclasses
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import ServiceError, invalid

MOST_ANSWERS, MOST_STOPS, MOST_STOP_CHARACTERS, MOST_TOP_LOGPROBS = 8, 16, 256, 20
_SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of a call are chosen. The defaults are the contract's."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    ignore_eos: bool = False
    seed: int = 0
    stop: tuple[str, ...] = ()
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0

    def options(self, index: int, grammar: str | None, *, alternatives: bool = False) -> dict[str, Any]:
        """Return the engine's options for answer `index`; what is as the engine does it anyway is left out.

        `alternatives`: the engine gives the alternatives to each token itself.
        """
        options: dict[str, Any] = {"max_new_tokens": self.max_tokens, "temperature": self.temperature}
        for name, default in _ENGINE_DEFAULTS.items():
            if getattr(self, name) != default:
                options[name] = getattr(self, name)
        if self.temperature > 0:
            options["seed"] = (self.seed + index) % _SEEDS
        if self.min_tokens:
            options["min_new_tokens"] = self.min_tokens
        if self.logprobs and (alternatives or not self.top_logprobs):
            options["logprobs"] = True
            if self.top_logprobs:
                options["top_logprobs"] = self.top_logprobs
        if grammar is not None:
            options["grammar"] = grammar
        return options


_ENGINE_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(Sampling)
    if field.name
    in ("top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "ignore_eos")
}


def read_sampling(request: pb.Sampling, room: int, default_max_tokens: int, *, none_allowed: bool = False) -> Sampling:
    """Return the parameters of a request. `room` is what the prompt leaves of the context, in tokens.

    `none_allowed`: max_tokens may be 0. Raises INVALID_ARGUMENT that names the field.
    """
    if request.logit_bias:
        raise invalid("sampling.logit_bias", "sampling.logit_bias is not supported by this model's engine")
    if request.top_logprobs > MOST_TOP_LOGPROBS:
        raise _out_of_range("top_logprobs", request.top_logprobs, f"0 to {MOST_TOP_LOGPROBS}")
    if request.top_logprobs and not request.logprobs:
        raise invalid("sampling.top_logprobs", "sampling.top_logprobs needs sampling.logprobs")
    max_tokens = _max_tokens(request, room, default_max_tokens, 0 if none_allowed else 1)
    if request.min_tokens > max_tokens:
        raise _out_of_range("min_tokens", request.min_tokens, f"0 to max_tokens, which is {max_tokens}")
    return Sampling(
        max_tokens=max_tokens,
        temperature=_number(request, "temperature", 1.0, (0, 2)),
        top_p=_number(request, "top_p", 1.0, (0, 1), above=True),
        top_k=request.top_k if request.HasField("top_k") else 0,
        min_p=_number(request, "min_p", 0.0, (0, 1)),
        frequency_penalty=_number(request, "frequency_penalty", 0.0, (-2, 2)),
        presence_penalty=_number(request, "presence_penalty", 0.0, (-2, 2)),
        repetition_penalty=_number(request, "repetition_penalty", 1.0, (0, 2), above=True),
        min_tokens=request.min_tokens,
        ignore_eos=request.ignore_eos,
        seed=request.seed if request.HasField("seed") else secrets.randbits(64),
        stop=_stop(request.stop),
        n=_answers(request),
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
    )


def too_long(prompt: int, answer: int, context: int, field: str) -> ServiceError:
    """Return the error for a prompt, or prompt and answer, over the context length."""
    return invalid(
        field,
        f"{field}: this model's context is {context} tokens; {prompt + answer} were asked for "
        f"({prompt} in the prompt, {answer} for the answer)",
        code="context_length_exceeded",
    )


def _max_tokens(request: pb.Sampling, room: int, default: int, least: int) -> int:
    if not request.HasField("max_tokens"):
        return min(default, room)
    if not least <= request.max_tokens:
        raise _out_of_range("max_tokens", request.max_tokens, f"{least} or more")
    return request.max_tokens


def _answers(request: pb.Sampling) -> int:
    if request.HasField("n") and not 1 <= request.n <= MOST_ANSWERS:
        raise _out_of_range("n", request.n, f"1 to {MOST_ANSWERS}")
    return request.n if request.HasField("n") else 1


def _stop(stops: Sequence[str]) -> tuple[str, ...]:
    if len(stops) > MOST_STOPS:
        raise invalid("sampling.stop", f"sampling.stop has {len(stops)} items; it takes {MOST_STOPS} at most")
    for index, stop in enumerate(stops):
        if not 1 <= len(stop) <= MOST_STOP_CHARACTERS:
            field = f"sampling.stop[{index}]"
            raise invalid(field, f"{field} has {len(stop)} characters; it takes 1 to {MOST_STOP_CHARACTERS}")
    return tuple(stops)


def _number(request: pb.Sampling, name: str, default: float, bounds: tuple[int, int], *, above: bool = False) -> float:
    if not request.HasField(name):  # type: ignore[arg-type]
        return default
    low, high = bounds
    value = float(getattr(request, name))
    if not low <= value <= high or (above and value == low) or math.isnan(value):
        raise _out_of_range(name, f"{value:g}", f"{'above ' if above else ''}{low} to {high}")
    return round(value, 7)  # 0.7 as a float32 is 0.699999988


def _out_of_range(name: str, value: object, takes: str) -> ServiceError:
    return invalid(f"sampling.{name}", f"sampling.{name} is {value}; it takes {takes}")
