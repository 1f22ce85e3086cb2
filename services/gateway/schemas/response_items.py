"""The items of a `POST /v1/responses`: https://platform.openai.com/docs/api-reference/responses/create."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, TypeAdapter

from services.gateway.schemas.chat import MOST_MESSAGES
from services.gateway.schemas.common import RequestBody, Text, text, wrong
from services.gateway.schemas.parts import Part, as_parts

Status = Literal["in_progress", "completed", "incomplete"]


class ItemPart(Part):
    """A piece of a message or of what a function returned."""

    type: Literal["input_text", "output_text", "refusal"]
    annotations: list[Any] | None = None
    """As in an answer; not used."""
    logprobs: list[Any] | None = None
    """As in an answer; not used."""
    parsed: Any = None
    """As OpenAI's client adds it; not used."""


Content = Annotated[
    list[ItemPart],
    BeforeValidator(lambda value: as_parts(value, ItemPart, "input_text"), json_schema_input_type=str | list[ItemPart]),
]


class Item(RequestBody):
    """What all items may have."""

    id: Text | None = None
    """As in an answer; not used."""
    status: Status | None = None
    """As in an answer; not used."""


class MessageItem(Item):
    """One turn of the conversation."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    """A text, or parts of one."""
    phase: Literal["commentary", "final_answer"] | None = None
    """As other models have it; not used."""


class FunctionCallItem(Item):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text
    """A JSON object."""
    parsed_arguments: Any = None
    """As OpenAI's client adds it; not used."""


class FunctionOutputItem(Item):
    """What a function returned."""

    type: Literal["function_call_output"]
    call_id: Text
    """The call that this answers."""
    output: Content
    """A text, or parts of one."""


AnyItem = MessageItem | FunctionCallItem | FunctionOutputItem
_CLASSES: dict[str, type[AnyItem]] = {
    "message": MessageItem,
    "function_call": FunctionCallItem,
    "function_call_output": FunctionOutputItem,
}
_REFUSED = {
    "reasoning": "the model does not reason apart; leave it out",
    "item_reference": "nothing is stored; give the item itself",
}


def _read_item(value: Any) -> AnyItem:
    """Return the item. A union would report every branch."""
    if not isinstance(value, dict):
        raise wrong("must be an object")
    kind = value.get("type") or "message"
    known = _CLASSES.get(kind) if isinstance(kind, str) else None
    if known is None:
        why = _REFUSED.get(kind) if isinstance(kind, str) else None
        raise wrong(f"is of type {kind}: {why}" if why else f"must be of type {', '.join(_CLASSES)}")
    return known.model_validate(value)


_ITEMS: TypeAdapter[list[AnyItem]] = TypeAdapter(
    Annotated[
        list[Annotated[AnyItem, PlainValidator(_read_item, json_schema_input_type=AnyItem)]],
        Field(min_length=1, max_length=MOST_MESSAGES),
    ]
)


def _read_input(value: Any) -> str | list[AnyItem]:
    if isinstance(value, str):
        return text("input", value)
    if not isinstance(value, list):
        raise wrong("must be a string or a list of items")
    return _ITEMS.validate_python(value)


Input = Annotated[
    str | list[AnyItem],
    PlainValidator(
        _read_input,
        json_schema_input_type=str | Annotated[list[AnyItem], Field(min_length=1, max_length=MOST_MESSAGES)],
    ),
]
