"""A protobuf message as Triton writes it in JSON: every field under its own name, integers as numbers."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor


def as_json(message: Any) -> dict[str, Any]:
    """Return every field that is set, and those that cannot be unset with their defaults."""
    return {
        field.name: _field(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _field(field: FieldDescriptor, value: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        values = kind.fields_by_name["value"]
        return {str(key): _value(values, value[key]) for key in value}
    if field.is_repeated:
        return [_value(field, element) for element in value]
    return _value(field, value)


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return as_json(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named else value
    return value.decode("latin-1") if isinstance(value, bytes) else value
