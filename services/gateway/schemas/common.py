"""What all request bodies share."""

from typing import Annotated, Any

from fastapi import Header
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

MOST_ITEMS = 2048  # of the contract: inputs, passages


class RequestBody(BaseModel):
    """A request body: nothing is converted, and a parameter nobody knows is an error, as in OpenAI and NIM."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)


TIMEOUT_HEADER = "x-flotilla-timeout-ms"
TimeoutMs = Annotated[
    int | None,
    Header(alias=TIMEOUT_HEADER, ge=1, le=86_400_000, description="Deadline of this request in milliseconds."),
]


def seconds(timeout_ms: int | None) -> float | None:
    """Return the deadline in seconds; None where the request brings none."""
    return None if timeout_ms is None else timeout_ms / 1000


def fault(field: str, sentence: str) -> PydanticCustomError:
    """Return the validation error "<field> <sentence>" for checks that a type cannot express in one sentence."""
    return PydanticCustomError("field", "{field} {sentence}", {"field": field, "sentence": sentence})


def count(field: str, values: list[Any], most: int = MOST_ITEMS) -> None:
    """Refuse a list too long before any work is put into it: one such body would hold up everyone else's requests."""
    if len(values) > most:
        raise fault(field, f"has {len(values)} items; it takes 1 to {most}")


def text(field: str, value: Any) -> str:
    """Return `value` where it is a string that UTF-8 can carry."""
    if not isinstance(value, str):
        raise fault(field, "must be a string")
    try:
        return _utf8(value)
    except PydanticCustomError as error:
        raise fault(field, error.message_template) from None


def _utf8(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError("text", "is not valid Unicode: it has a lone surrogate") from None
    return value


Text = Annotated[str, AfterValidator(_utf8)]
ModelId = Annotated[Text, StringConstraints(min_length=1, max_length=256)]
