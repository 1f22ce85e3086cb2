"""`POST /v1/completions` as OpenAI has it: https://platform.openai.com/docs/api-reference/completions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, PlainValidator, model_validator

from services.gateway.schemas.common import count, fault, text, token_ids, wrong
from services.gateway.schemas.generation import ChoicesRequest, Usage

MOST_PROMPTS = 128


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a request."""

    name: str
    """What errors about it call it: "prompt", or "prompt[2]"."""
    value: str | list[int]
    """A text, or token ids."""


def _read_prompts(value: Any) -> list[Prompt]:
    """Return the prompts. One pass and one sentence, where a union would report every branch."""
    if isinstance(value, str):
        return [Prompt("prompt", text("prompt", value))]
    if not isinstance(value, list):
        raise wrong("must be a string, a list of strings, a list of token ids, or a list of such lists")
    if not value:
        raise wrong("must not be empty")
    if not isinstance(value[0], str | list):
        return [Prompt("prompt", token_ids("prompt", value))]
    count("prompt", value, MOST_PROMPTS)
    read = text if isinstance(value[0], str) else token_ids
    return [Prompt(f"prompt[{i}]", read(f"prompt[{i}]", item)) for i, item in enumerate(value)]


class CompletionsRequest(ChoicesRequest):
    """Prompts to continue."""

    REFUSED: ClassVar[Mapping[str, str]] = {"suffix": "the model continues a text and fills no gaps"}

    prompt: Annotated[
        list[Prompt],
        PlainValidator(_read_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ]
    """A text, 1 to 128 texts, the token ids of one text, or 1 to 128 lists of token ids."""
    echo: bool | None = None
    """Send the prompt in front of the answer; then `max_tokens` may be 0."""
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    """Send the log-probability of every token, and of so many of the most likely ones, 0 to 5."""
    best_of: Annotated[int, Field(ge=1, le=8)] | None = None
    """Only as many as `n`: nothing is thrown away."""

    @model_validator(mode="after")
    def _check_best_of(self) -> "CompletionsRequest":
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise fault("best_of", "must be equal to n: all answers are returned")
        return self


class CompletionLogprobs(BaseModel):
    """The log-probabilities of an answer, one for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]
    """Where the tokens begin in `text`, in characters."""


class CompletionChoice(BaseModel):
    """One answer."""

    index: int
    """Position of the prompt times `n`, plus the number of the answer."""
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionsResponse(BaseModel):
    """The answers. A stream has them in pieces of the same form."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[CompletionChoice]
    usage: Usage
