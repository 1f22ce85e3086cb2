"""What `POST /v1/responses` answers: https://platform.openai.com/docs/api-reference/responses/object."""

from typing import Any, Literal

from pydantic import BaseModel

from services.gateway.schemas.chat import TokenLogprob
from services.gateway.schemas.response_items import Status


class OutputText(BaseModel):
    """What the model says."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprob]
    """One for each token, where asked for."""


class OutputMessage(BaseModel):
    """A message of the model."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Status
    content: list[OutputText]


class OutputFunctionCall(BaseModel):
    """A call that the model makes."""

    id: str
    type: Literal["function_call"]
    call_id: str
    """What a `function_call_output` names it by."""
    name: str
    arguments: str
    """A JSON object."""
    status: Status


class IncompleteDetails(BaseModel):
    """Why an answer ended before its end."""

    reason: Literal["max_output_tokens"]


class ResponseError(BaseModel):
    """Why an answer failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str
    type: str
    """As in the errors of requests."""
    param: str | None


class InputTokensDetails(BaseModel):
    """More about the input."""

    cached_tokens: int
    """Tokens that came from the prefix cache."""
    cache_write_tokens: int
    """Always 0: writing to the prefix cache is not counted apart."""


class OutputTokensDetails(BaseModel):
    """More about the output."""

    reasoning_tokens: int
    """Always 0: the model does not reason apart."""


class ResponseUsage(BaseModel):
    """What the request has used, in tokens."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseObject(BaseModel):
    """The answer, and the request's parameters. A stream has it in its first and last events."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    completed_at: int | None
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage | OutputFunctionCall]
    parallel_tool_calls: bool
    previous_response_id: None
    prompt_cache_key: str | None
    reasoning: None
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, str]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None
