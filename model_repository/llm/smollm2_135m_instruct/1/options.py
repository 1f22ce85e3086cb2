"""The options of a request: what may be in them, and what is left out. Knows nothing of the engine."""

import json
import math
from dataclasses import dataclass, fields

GREEDY_BELOW = 1e-3
"""A lower temperature is greedy: the engine would divide by next to nothing."""
MAX_GRAMMAR_BYTES = 65536
RANGES = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.0, 100.0),
    "seed": (0, 2**64 - 1),
    "max_new_tokens": (1, 2**31 - 1),
    "min_new_tokens": (0, 2**31 - 1),
}
NOT_LEAST = ("top_p", "repetition_penalty")
"""Options that must be greater than the least of their range."""
NOT_MOST = ("min_p",)


class InvalidRequestError(Exception):
    """A request that the engine must not see; one line that names the field."""


@dataclass(frozen=True, slots=True)
class Options:
    """How one prompt is answered; the defaults hold for what is left out."""

    max_new_tokens: int | None = None
    """None: as many as fit."""
    min_new_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    """None: another one each time."""
    ignore_eos: bool = False
    logprobs: bool = False
    grammar: str | None = None

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < GREEDY_BELOW


NAMES = frozenset(field.name for field in fields(Options))


def parse_options(content: bytes) -> Options:
    """Return the options of UTF-8 JSON. InvalidRequestError names what is wrong."""
    try:
        document = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        raise InvalidRequestError("options: not JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise InvalidRequestError("options: not a JSON object")
    if unknown := sorted(document.keys() - NAMES):
        raise InvalidRequestError(f"options: unknown key {unknown[0]!r:.80}")
    given = {name: _checked(name, value) for name, value in document.items() if value is not None}
    options = Options(**given)
    if options.max_new_tokens is not None and options.min_new_tokens > options.max_new_tokens:
        raise InvalidRequestError("options.min_new_tokens: more than max_new_tokens")
    return options


def check_prompt(ids, options, vocabulary, limit):
    """Return how many tokens may be generated. `limit` is the most tokens, prompt and answer together.

    InvalidRequestError when the prompt cannot be answered.
    """
    room = limit - len(ids)
    wanted = options.max_new_tokens or max(1, options.min_new_tokens)
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise InvalidRequestError(f"input_ids: values must be between 0 and {vocabulary - 1}")
    if wanted > room:
        raise InvalidRequestError(
            f"input_ids: {len(ids)} tokens and {wanted} new ones are more than the {limit} that fit"
        )
    return options.max_new_tokens or room


def _checked(name, value):
    if name in RANGES:
        return _number(name, value, *RANGES[name])
    if name == "grammar":
        return _grammar(value)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"options.{name}: must be true or false")
    return value


def _number(name, value, least, most):
    whole = isinstance(least, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise InvalidRequestError(f"options.{name}: must be a {'whole number' if whole else 'number'}")
    inside = (
        least <= value <= most and (name not in NOT_LEAST or value > least) and (name not in NOT_MOST or value < most)
    )
    if not inside or not math.isfinite(value):
        raise InvalidRequestError(f"options.{name}: must be between {least} and {most}")
    return value if whole else float(value)


def _grammar(value):
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InvalidRequestError("options.grammar: must be a text in EBNF")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRequestError("options.grammar: not valid Unicode") from None
    if size > MAX_GRAMMAR_BYTES:
        raise InvalidRequestError(f"options.grammar: {size} bytes; the limit is {MAX_GRAMMAR_BYTES}")
    return value
