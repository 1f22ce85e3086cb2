"""`POST /v1/chat/completions` as OpenAI has it: https://platform.openai.com/docs/api-reference/chat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, model_validator

from services.gateway.schemas.common import RequestBody, Text, fault, text, wrong
from services.gateway.schemas.generation import ChoicesRequest, JsonSchema, OnlyFalse, SomeTokens, Usage
from services.gateway.schemas.parts import Part, as_parts, text_of

MOST_MESSAGES, MOST_TOOLS = 2048, 128  # of the contract


class TextPart(Part):
    """A piece of a message."""

    type: Literal["text", "refusal"]


Content = Annotated[
    list[TextPart],
    BeforeValidator(lambda value: as_parts(value, TextPart, "text"), json_schema_input_type=str | list[TextPart]),
]


class FunctionCall(RequestBody):
    """The function that was called."""

    name: Text
    arguments: Text
    """A JSON object."""
    parsed_arguments: Any = None
    """As OpenAI's client adds it; not used."""


class ToolCall(RequestBody):
    """A call that the model made."""

    id: Text
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None
    """As in a stream; not used."""


class Message(RequestBody):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    """A text, or parts of one. Only an assistant that called tools may have none."""
    name: Text | None = None
    tool_calls: list[ToolCall] | None = None
    """Calls that the assistant made."""
    tool_call_id: Text | None = None
    """The call that a tool answers."""
    refusal: Text | None = None
    """As in an answer; not used."""
    annotations: list[Any] | None = None
    """As in an answer; not used."""
    parsed: Any = None
    """As OpenAI's client adds it; not used."""
    audio: None = None
    function_call: None = None

    @property
    def text(self) -> str:
        """What is said, parts on lines of their own."""
        return text_of(self.content or ())

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        if self.tool_calls and self.role != "assistant":
            raise wrong("has tool_calls; only the role assistant has them")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise wrong(
                "must have tool_call_id" if self.role == "tool" else "has tool_call_id; only the role tool has it"
            )
        if self.content is None and not self.tool_calls:
            raise wrong("must have content")
        return self


class Function(RequestBody):
    """A function that the model may call."""

    name: Text
    description: Text | None = None
    parameters: JsonSchema | None = None
    """JSON Schema of the arguments. Default: there are none."""
    strict: bool | None = None
    """Arguments are always of the schema where a call is asked for."""


class Tool(RequestBody):
    """A tool; there are only functions."""

    type: Literal["function"]
    function: Function


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether and what the model calls."""

    mode: str
    """`auto`, `none`, `required` or `named`."""
    name: str = ""


class _FunctionName(RequestBody):
    name: Text


class NamedToolChoice(RequestBody):
    """The one tool to call."""

    type: Literal["function"]
    function: _FunctionName


_TOOL_CHOICE = "must be 'none', 'auto', 'required', or {'type': 'function', 'function': {'name': ...}}"


def _read_tool_choice(value: Any) -> ToolChoice | None:
    """Return the choice. One sentence, where a union would report every branch."""
    if value is None:
        return None
    if isinstance(value, str) and value in ("none", "auto", "required"):
        return ToolChoice(value)
    if not isinstance(value, dict) or set(value) != {"type", "function"} or value["type"] != "function":
        raise wrong(_TOOL_CHOICE)
    function = value["function"]
    if not isinstance(function, dict) or set(function) != {"name"}:
        raise wrong(_TOOL_CHOICE)
    return ToolChoice("named", text("tool_choice.function.name", function["name"]))


class JsonSchemaFormat(RequestBody):
    """A JSON Schema and its name."""

    name: Text | None = None
    description: Text | None = None
    schema_: Annotated[JsonSchema, Field(alias="schema")]
    strict: bool | None = None
    """The schema is always kept."""


class ResponseFormat(RequestBody):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> "ResponseFormat":
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise wrong("must have json_schema with type 'json_schema', and only then")
        return self


class ChatRequest(ChoicesRequest):
    """A conversation to go on with."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "functions": "give tools",
        "function_call": "give tool_choice",
        "audio": "the model makes text",
        "prediction": "predicted outputs are not served",
        "web_search_options": "the model searches nothing",
        "reasoning_effort": "the model does not reason apart",
        "verbosity": "the model has no such setting",
        "moderation": "nothing is moderated",
        "prompt_cache_options": "the prefix cache has no settings",
    }

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    """The conversation, 1 to 2,048 messages."""
    max_tokens: SomeTokens | None = None
    """Most tokens of an answer. Default: what the context leaves."""
    max_completion_tokens: SomeTokens | None = None
    """The newer name of `max_tokens`; give one of the two."""
    logprobs: bool | None = None
    """Send the log-probability of every token."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """And those of so many of the most likely tokens, 0 to 20. Only with `logprobs`."""
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    """Up to 128 functions that the model may call."""
    tool_choice: Annotated[
        ToolChoice | None,
        PlainValidator(
            _read_tool_choice, json_schema_input_type=Literal["none", "auto", "required"] | NamedToolChoice | None
        ),
    ] = None
    """Whether and what it calls. Default: `auto` where there are tools."""
    parallel_tool_calls: bool | None = None
    """Whether an answer may call several tools. Default: true."""
    response_format: ResponseFormat | None = None
    """The form of the answer."""
    modalities: list[Literal["text"]] | None = None
    """There is only text."""
    store: OnlyFalse | None = None
    """Nothing is stored."""
    metadata: dict[str, str] | None = None
    """Of stored answers, which there are not: accepted and not used."""
    service_tier: Literal["auto", "default"] | None = None
    """There is one tier."""
    safety_identifier: Text | None = None
    """The newer name of `user`."""
    prompt_cache_key: Text | None = None
    """A hint for the prefix cache, which needs none."""
    prompt_cache_retention: Literal["in_memory"] | None = None
    """The prefix cache is in memory."""

    @model_validator(mode="after")
    def _check_pairs(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise fault("top_logprobs", "is only for requests with logprobs")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise fault("max_tokens", "and max_completion_tokens are the same; give one of the two")
        return self


class TopLogprob(BaseModel):
    """A token that was likely in a place."""

    token: str
    """Its text; bytes that are no whole characters as \\xNN."""
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """The token of a place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """The log-probabilities of an answer."""

    content: list[TokenLogprob]
    refusal: None


class AnswerFunctionCall(BaseModel):
    """The function to call."""

    name: str
    arguments: str
    """A JSON object."""


class AnswerToolCall(BaseModel):
    """A call that the model makes."""

    id: str
    type: Literal["function"]
    function: AnswerFunctionCall


class AnswerMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[AnswerToolCall] = []


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatResponse(BaseModel):
    """The answers. A stream has them in pieces: `data: {...}` with `delta` in place of `message`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[ChatChoice]
    usage: Usage
