"""The body of every error: https://platform.openai.com/docs/guides/error-codes."""

from pydantic import BaseModel


class Error(BaseModel):
    """What went wrong."""

    message: str
    """A sentence for people; it names the field at fault."""
    type: str
    """OpenAI's class of the error, for example "invalid_request_error"."""
    param: str | None
    """The field of the request at fault, for example "input[3]"."""
    code: str | None
    """A word for programs, for example "model_not_found"."""


class ErrorResponse(BaseModel):
    """The error of a request."""

    error: Error
