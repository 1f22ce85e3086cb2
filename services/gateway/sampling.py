"""The part of a request that chat and completions share, as the llm service takes it, and the way back for errors."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import invalid
from services.gateway.schemas.chat import ChatRequest
from services.gateway.schemas.generation import GenerationRequest

_SAME = ("max_tokens", "temperature", "top_p", "n", "frequency_penalty", "presence_penalty")
_EXTENSIONS = ("min_p", "repetition_penalty", "min_tokens", "ignore_eos")
_GUIDED: dict[str, Callable[[Any], pb.OutputFormat]] = {
    "guided_json": lambda schema: pb.OutputFormat(json_schema=schema),
    "guided_regex": lambda regex: pb.OutputFormat(regex=regex),
    "guided_choice": lambda options: pb.OutputFormat(choice=pb.Choice(options=options)),
    "guided_grammar": lambda grammar: pb.OutputFormat(grammar=grammar),
}
_STEPS = (
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
    others: Mapping[str, str] = field(default_factory=dict)
    """By the first word of the field."""

    def public(self, name: str) -> str:
        """Return the caller's name of the service's field `name`."""
        name = _SAMPLING.sub(lambda found: self.sampling.get(found[1], found[1]), name)
        name = _FORMAT.sub(self.format, name)
        for pattern, replacement in _STEPS:
            name = pattern.sub(replacement, name)
        return name

    def with_prompt(self, prompt: str) -> Callable[[str], str]:
        """Return `public` for a call about the prompt of that name."""
        return lambda name: re.sub(r"^(?:text|prompt|tokens(?:\.ids)?)(?=\[|$)", lambda _: prompt, self.public(name))


def to_sampling(body: GenerationRequest, names: Names) -> pb.Sampling:
    """Return the sampling parameters, without log-probabilities. Raises INVALID_ARGUMENT."""
    values: dict[str, Any] = {name: getattr(body, name) for name in _SAME}
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


def to_format(body: GenerationRequest, names: Names) -> pb.OutputFormat | None:
    """Return the constraint of the answer; None where it is free. Raises INVALID_ARGUMENT where there are two."""
    found = dict([*_response_format(body), *_guided(body)])
    if len(found) > 1:
        first, second = sorted(found, key=lambda name: name.startswith("response_format"))[:2]
        raise invalid(first, f"{first} and {second} both constrain the answer; give one")
    for name, answer_format in found.items():
        names.format = name
        return answer_format
    return None


def _response_format(body: GenerationRequest) -> list[tuple[str, pb.OutputFormat]]:
    wanted = body.response_format if isinstance(body, ChatRequest) else None
    if wanted is None or wanted.type == "text":
        return []
    if wanted.json_schema is None:
        return [("response_format", pb.OutputFormat(json_object=True))]
    return [("response_format.json_schema.schema", pb.OutputFormat(json_schema=wanted.json_schema.schema_))]


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
