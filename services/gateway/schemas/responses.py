"""`POST /v1/responses` as OpenAI has it: https://platform.openai.com/docs/api-reference/responses."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from services.gateway.schemas.chat import MOST_TOOLS, ToolChoice
from services.gateway.schemas.common import RequestBody, Text, fault, text, wrong
from services.gateway.schemas.generation import GenerationRequest, JsonObject, OnlyFalse, SomeTokens
from services.gateway.schemas.response_items import Input

LOGPROBS = "message.output_text.logprobs"
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
_TOOL_CHOICE = "must be 'none', 'auto', 'required', or {'type': 'function', 'name': ...}"


def _only_functions(value: Any) -> Any:
    if isinstance(value, str) and value != "function":
        raise wrong(f"is {value[:64]}; there are only functions, no tools of the server's own")
    return value


class FunctionTool(RequestBody):
    """A function that the model may call."""

    type: Annotated[Literal["function"], BeforeValidator(_only_functions)]
    name: Text
    description: Text | None = None
    parameters: JsonObject | None = None
    """JSON Schema of the arguments. Default: there are none."""
    strict: bool | None = None
    """Arguments are always of the schema where a call is asked for."""


class FunctionChoice(RequestBody):
    """The one function to call."""

    type: Literal["function"]
    name: Text


def _read_tool_choice(value: Any) -> ToolChoice | None:
    """Return the choice. One sentence, where a union would report every branch."""
    if value is None:
        return None
    if isinstance(value, str) and value in ("none", "auto", "required"):
        return ToolChoice(value)
    if not isinstance(value, dict) or set(value) != {"type", "name"} or value["type"] != "function":
        raise wrong(_TOOL_CHOICE)
    return ToolChoice("named", text("tool_choice.name", value["name"]))


_Metadata = Annotated[
    dict[Annotated[str, Field(max_length=_LONGEST_KEY)], Annotated[str, Field(max_length=_LONGEST_VALUE)]],
    Field(max_length=_MOST_PAIRS),
]


def _read_metadata(value: Any) -> dict[str, str] | None:
    """Return the pairs, within OpenAI's limits."""
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > _MOST_PAIRS:
        raise wrong(f"must be an object of up to {_MOST_PAIRS} texts")
    for key, held in value.items():
        if len(text("metadata", key)) > _LONGEST_KEY or len(text(f"metadata.{key[:64]}", held)) > _LONGEST_VALUE:
            raise wrong(f"has keys of up to {_LONGEST_KEY} characters and values of up to {_LONGEST_VALUE}")
    return value


def _no_verbosity(value: Any) -> Any:
    if value is not None:
        raise wrong("cannot be honoured: the model has no such setting")
    return value


class TextFormat(RequestBody):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: Text | None = None
    description: Text | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    strict: bool | None = None
    """The schema is always kept."""

    @model_validator(mode="after")
    def _has_its_schema(self) -> "TextFormat":
        if (self.schema_ is not None) != (self.type == "json_schema"):
            raise wrong("must have schema with type 'json_schema', and only then")
        return self


class TextOptions(RequestBody):
    """What is wanted of the text."""

    format: TextFormat | None = None
    """The form of the answer. Default: free text."""
    verbosity: Annotated[None, BeforeValidator(_no_verbosity)] = None
    """Refused: the model has no such setting."""


class ResponsesRequest(GenerationRequest):
    """A conversation to go on with. Nothing of it is stored."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "previous_response_id": "nothing is stored; give the whole conversation as input",
        "conversation": "nothing is stored; give the whole conversation as input",
        "prompt": "there are no stored prompts; give instructions and input",
        "context_management": "the context is not compacted",
        "background_options": "nothing runs in the background",
        "reasoning": "the model does not reason apart",
        "max_tool_calls": "it limits tools of the server's own, and there are none",
        "moderation": "nothing is moderated",
        "prompt_cache_options": "the prefix cache has no settings",
        "access_programs": "there are none",
        "image": "this model takes no images",
        "messages": "give input",
        "max_tokens": "give max_output_tokens",
        "max_completion_tokens": "give max_output_tokens",
        "response_format": "give text.format",
        "logprobs": f"give include: ['{LOGPROBS}']",
        "n": "a response is one answer",
    }

    input: Input
    """What is said: a text of the user, or 1 to 2,048 items."""
    instructions: Text | None = None
    """Of the operator, before the input."""
    max_output_tokens: SomeTokens | None = None
    """Most tokens of the answer. Default: what the context leaves."""
    include: list[Literal["message.output_text.logprobs"]] | None = None
    """Send the log-probability of every token of the text."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """And those of so many of the most likely tokens, 0 to 20. Only where `include` asks for log-probabilities."""
    tools: Annotated[list[FunctionTool], Field(max_length=MOST_TOOLS)] | None = None
    """Up to 128 functions that the model may call."""
    tool_choice: Annotated[
        ToolChoice | None,
        PlainValidator(
            _read_tool_choice, json_schema_input_type=Literal["none", "auto", "required"] | FunctionChoice | None
        ),
    ] = None
    """Whether and what it calls. Default: `auto` where there are tools."""
    parallel_tool_calls: bool | None = None
    """Whether an answer may call several tools. Default: true."""
    text: TextOptions | None = None
    """The form of the answer."""
    truncation: Literal["disabled"] | None = None
    """What is too long for the context is an error; nothing is left out of it."""
    metadata: Annotated[
        dict[str, str] | None, PlainValidator(_read_metadata, json_schema_input_type=_Metadata | None)
    ] = None
    """Up to 16 texts of up to 512 characters, with names of up to 64, that come back with the answer."""
    store: OnlyFalse | None = None
    """Nothing is stored."""
    background: OnlyFalse | None = None
    """Nothing runs in the background."""
    service_tier: Literal["auto", "default"] | None = None
    """There is one tier."""
    safety_identifier: Text | None = None
    """The newer name of `user`."""
    prompt_cache_key: Text | None = None
    """A hint for the prefix cache, which needs none."""
    prompt_cache_retention: Literal["in_memory"] | None = None
    """The prefix cache is in memory."""

    @property
    def with_logprobs(self) -> bool:
        """Whether log-probabilities are asked for."""
        return LOGPROBS in (self.include or ())

    @model_validator(mode="after")
    def _check_logprobs(self) -> "ResponsesRequest":
        if self.top_logprobs is not None and not self.with_logprobs:
            raise fault("top_logprobs", f"is only for requests that include {LOGPROBS}")
        return self
