"""What the routes that generate text share: OpenAI's sampling parameters, and those that NIM and vLLM add."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, Field, PlainValidator, model_validator

from services.gateway.schemas.common import ModelId, RequestBody, Text, document, fault, text, utf8, wrong

Tokens = Annotated[int, Field(ge=0, le=2**31 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
SomeTokens = Annotated[int, Field(ge=1, le=2**31 - 1)]


def _not_true(value: bool) -> bool:
    if value:
        raise wrong("must be false: it is not served")
    return value


OnlyFalse = Annotated[bool, AfterValidator(_not_true)]


def _read_object(value: Any) -> str:
    """Return the JSON document of an object."""
    if not isinstance(value, dict):
        raise wrong("must be an object")
    return document(value)


def _read_schema(value: Any) -> str:
    """Return the JSON document of a JSON Schema, which may come as such."""
    return utf8(value) if isinstance(value, str) else _read_object(value)


def _read_stop(value: Any) -> list[str] | None:
    """Return the stop strings as a list."""
    if value is None:
        return None
    if isinstance(value, str):
        return [text("stop", value)]
    if not isinstance(value, list):
        raise wrong("must be a string or a list of strings")
    return [text(f"stop[{i}]", item) for i, item in enumerate(value)]


def _read_bias(value: Any) -> dict[int, float] | None:
    """Return the bias by token id; JSON has only strings as keys."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong("must be an object of token ids and numbers")
    return {_token(key): _bias(key, number) for key, number in value.items()}


def _token(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) < 2**32):
        raise wrong("must have token ids as keys")
    return int(key)


def _bias(key: str, number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not -100 <= number <= 100:
        raise fault(f"logit_bias.{key}", "must be a number from -100 to 100")
    return float(number)


JsonObject = Annotated[str, PlainValidator(_read_object, json_schema_input_type=dict[str, Any])]
JsonSchema = Annotated[str, PlainValidator(_read_schema, json_schema_input_type=dict[str, Any])]
Stop = Annotated[list[str] | None, PlainValidator(_read_stop, json_schema_input_type=str | list[str] | None)]
LogitBias = Annotated[
    dict[int, float] | None, PlainValidator(_read_bias, json_schema_input_type=dict[str, float] | None)
]


class Extensions(RequestBody):
    """What OpenAI does not have. Takes effect at the top level of a request or in `nvext`."""

    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    """Only so many of the most likely tokens; 0 or -1 for all. Default: 0."""
    min_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """Only tokens at least this likely relative to the most likely one, 0 to 1. Default: 0."""
    repetition_penalty: Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] | None = None
    """Makes tokens seen before less likely (above 1) or more, above 0, up to 2. Default: 1."""
    min_tokens: Tokens | None = None
    """Least tokens before the model may end the answer. Default: 0."""
    ignore_eos: bool | None = None
    """Go on when the model would end the answer, until the limit of tokens. Default: false."""
    guided_json: JsonSchema | None = None
    """The answer is JSON of this JSON Schema."""
    guided_regex: Text | None = None
    """The whole answer matches this regular expression."""
    guided_choice: list[Text] | None = None
    """The answer is one of these, 1 to 256."""
    guided_grammar: Text | None = None
    """The answer is of this EBNF grammar, whose root rule is called root."""


class StreamOptions(RequestBody):
    """What a stream has beside the answer."""

    include_obfuscation: OnlyFalse | None = None
    """Nothing is padded."""


class GenerationRequest(Extensions):
    """What all requests have."""

    REFUSED: ClassVar[Mapping[str, str]] = {}
    """Parameters of OpenAI that cannot be honoured, and why."""

    model: ModelId
    """Id of the model."""
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    """Flattens (above 1) or sharpens the distribution, 0 to 2; 0 is greedy. Default: 1."""
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """Only the most likely tokens that add up to this probability, above 0, up to 1. Default: 1."""
    stop: Stop = None
    """The answer ends before any of these strings: one, or up to 16, of 1 to 256 characters."""
    seed: Annotated[int, Field(ge=-(2**63), le=2**64 - 1)] | None = None
    """The same seed gives the same answer when the request runs alone."""
    frequency_penalty: Penalty | None = None
    """Taken from the logit of a token for each time it was generated, -2 to 2. Default: 0."""
    presence_penalty: Penalty | None = None
    """Taken from the logit of a token that was generated, -2 to 2. Default: 0."""
    logit_bias: LogitBias = None
    """Added to the logits of tokens, by token id, -100 to 100."""
    stream: bool | None = None
    """Send the answer in pieces, as server-sent events."""
    stream_options: StreamOptions | None = None
    """Only with `stream`."""
    user: Text | None = None
    """Whose request it is, for a fair turn in the queue."""
    nvext: Extensions | None = None
    """The extensions as NIM's clients send them."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name, why in cls.REFUSED.items():
            if data.get(name) is not None:
                raise fault(name, f"cannot be honoured: {why}")
        return {name: value for name, value in data.items() if name not in cls.REFUSED}

    @model_validator(mode="after")
    def _check_stream_options(self) -> "GenerationRequest":
        if self.stream_options is not None and not self.stream:
            raise fault("stream_options", "is only for requests with stream")
        return self


class ChunkOptions(StreamOptions):
    """What a stream of chunks has beside the answer."""

    include_usage: bool | None = None
    """Send a last chunk without choices that has the usage."""


class ChoicesRequest(GenerationRequest):
    """What requests have that several answers are given to."""

    max_tokens: Tokens | None = None
    """Most tokens of an answer."""
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    """How many answers, 1 to 8. Default: 1."""
    stream_options: ChunkOptions | None = None
    """Only with `stream`."""

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class PromptTokensDetails(BaseModel):
    """More about the prompt."""

    cached_tokens: int
    """Tokens that came from the prefix cache."""


class Usage(BaseModel):
    """What the request has used, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
