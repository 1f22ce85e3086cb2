"""What requests for text share, as the llm service takes it, and the way back for errors."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import invalid
from services.gateway.schemas.generation import GenerationRequest

_SAME = ("max_tokens", "temperature", "top_p", "n", "frequency_penalty", "presence_penalty")
_EXTENSIONS = ("min_p", "repetition_penalty", "min_tokens", "ignore_eos")
_GUIDED: dict[str, Callable[[Any], pb.OutputFormat]] = {
    "guided_json": lambda schema: pb.OutputFormat(json_schema=schema),
    "guided_regex": lambda regex: pb.OutputFormat(regex=regex),
    "guided_choice": lambda options: pb.OutputFormat(choice=pb.Choice(options=options)),
    "guided_grammar": lambda grammar: pb.OutputFormat(grammar=grammar),
}
Steps = Sequence[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]
"""Patterns of the service's names, and what they become."""

_OF_CHAT: Steps = (
    (re.compile(r"^(tools\[\d+\])\.(name|description|parameters)"), r"\1.function.\2"),
    (re.compile(r"^(messages\[\d+\]\.tool_calls\[\d+\])\.(name|arguments)"), r"\1.function.\2"),
    (re.compile(r"^tool_choice\.name"), "tool_choice.function.name"),
    (re.compile(r"^tool_choice\.mode"), "tool_choice"),
)
_SAMPLING = re.compile(r"^sampling\.(\w+)")
_FORMAT = re.compile(r"^format\b(?:\.\w+(?:\.options)?)?")


@dataclass(slots=True)
class Names:
    """What the caller calls the fields of the service's request."""

    sampling: dict[str, str] = field(default_factory=dict)
    """Names of sampling parameters that are not the service's own."""
    format: str = "response_format"
    """What constrains the answer."""
    steps: Steps = _OF_CHAT
    """All that is not about sampling or format."""

    def public(self, name: str) -> str:
        """Return the caller's name of the service's field `name`."""
        name = _SAMPLING.sub(lambda found: self.sampling.get(found[1], found[1]), name)
        name = _FORMAT.sub(self.format, name)
        for pattern, replacement in self.steps:
            name = pattern.sub(replacement, name)
        return name

    def with_prompt(self, prompt: str) -> Callable[[str], str]:
        """Return `public` for a call about the prompt of that name."""
        return lambda name: re.sub(r"^(?:text|prompt|tokens(?:\.ids)?)(?=\[|$)", lambda _: prompt, self.public(name))


def to_sampling(body: GenerationRequest, names: Names) -> pb.Sampling:
    """Return the sampling parameters, without log-probabilities. Raises INVALID_ARGUMENT."""
    values: dict[str, Any] = {name: getattr(body, name, None) for name in _SAME}
    for name in _EXTENSIONS:
        names.sampling[name], values[name] = _extension(body, name)
    names.sampling["top_k"], top_k = _extension(body, "top_k")
    if body.seed is not None:
        values["seed"] = body.seed % 2**64
    return pb.Sampling(
        **{name: value for name, value in values.items() if value is not None},
        top_k=None if top_k is None else max(top_k, 0),
        stop=body.stop,
        logit_bias=body.logit_bias,
    )


def to_format(
    body: GenerationRequest, names: Names, own: tuple[str, pb.OutputFormat] | None = None
) -> pb.OutputFormat | None:
    """Return the constraint of the answer; None where it is free. Raises INVALID_ARGUMENT where there are two.

    `own` is one that the request has beside the additions, and its name.
    """
    found = dict([*_guided(body), *([] if own is None else [own])])
    if len(found) > 1:
        first, second, *_ = found
        raise invalid(first, f"{first} and {second} both constrain the answer; give one")
    for name, answer_format in found.items():
        names.format = name
        return answer_format
    return None


def _guided(body: GenerationRequest) -> list[tuple[str, pb.OutputFormat]]:
    found = []
    for name, to_proto in _GUIDED.items():
        public, value = _extension(body, name)
        if value is not None:
            found.append((public, to_proto(value)))
    return found


def _extension(body: GenerationRequest, name: str) -> tuple[str, Any]:
    """Return an extension's name as the caller gave it, and its value."""
    value, nested = getattr(body, name), getattr(body.nvext, name, None)
    if value is not None and nested is not None:
        raise invalid(f"nvext.{name}", f"nvext.{name} is given at the top level too; give one")
    return (name, value) if nested is None else (f"nvext.{name}", nested)
