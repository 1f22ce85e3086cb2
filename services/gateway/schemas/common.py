"""What all request bodies share."""

import json
from typing import Annotated, Any

from fastapi import Header
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

MOST_ITEMS = 2048  # of the contract: inputs, passages
LARGEST_TOKEN_ID = 2**32 - 1
MOST_TOKENS = 2**17  # of one input; far over what any model takes


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


def wrong(sentence: str) -> PydanticCustomError:
    """Return the validation error "<field> <sentence>" about the field that is being validated."""
    return PydanticCustomError("sentence", "{sentence}", {"sentence": sentence})


def count(field: str, values: list[Any], most: int = MOST_ITEMS) -> None:
    """Refuse a list too long before any work is put into it: one such body would hold up everyone else's requests."""
    if len(values) > most:
        raise fault(field, f"has {len(values)} items; it takes 1 to {most}")


def text(field: str, value: Any) -> str:
    """Return `value` where it is a string that UTF-8 can carry."""
    if not isinstance(value, str):
        raise fault(field, "must be a string")
    try:
        return utf8(value)
    except PydanticCustomError as error:
        raise fault(field, error.message()) from None


def token_ids(field: str, value: Any) -> list[int]:
    """Return `value` where it is a list of token ids."""
    if not isinstance(value, list):
        raise fault(field, "must be a list of token ids, as the inputs before it are")
    count(field, value, MOST_TOKENS)
    for i, token in enumerate(value):
        if type(token) is not int or not 0 <= token <= LARGEST_TOKEN_ID:
            raise fault(f"{field}[{i}]", f"must be a string or a token id from 0 to {LARGEST_TOKEN_ID}")
    return value


def document(value: Any) -> str:
    """Return `value`, out of a parsed body, as the JSON document it was."""
    try:
        return utf8(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        raise wrong("is no JSON: it has a number that is not finite, or is nested too deep") from None


def utf8(value: str) -> str:
    """Return `value` where UTF-8 can carry it."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise wrong("is not valid Unicode: it has a lone surrogate") from None
    return value


Text = Annotated[str, AfterValidator(utf8)]
ModelId = Annotated[Text, StringConstraints(min_length=1, max_length=256)]
