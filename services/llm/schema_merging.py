"""Two JSON Schemas as one that takes what both take, and whether two schemas can take the same value."""

import json
from collections.abc import Callable
from typing import Any

FlatSchema = dict[str, Any]
_NOTHING: FlatSchema = {"enum": []}


class MergeError(ValueError):
    """Two schemas that cannot be merged. Says why."""


def merged(one: FlatSchema, other: FlatSchema) -> FlatSchema:
    """Return the schema of what both take. Raises MergeError."""
    one, other = _closed(one, other), _closed(other, one)
    both = {**one, **other}
    for key in one.keys() & other.keys():
        if key not in _MERGES and one[key] != other[key]:
            raise MergeError(f"two different values of the keyword '{key}' cannot be combined")
        both[key] = _MERGES[key](one[key], other[key]) if key in _MERGES else one[key]
    return _NOTHING if both.get("type") == [] else both


def disjoint(one: FlatSchema, other: FlatSchema) -> bool:
    """Whether it is plain that no value is taken by both: by type, by enum, or by those of a required property."""
    if not _types(one) & _types(other):
        return True
    values = [_values(schema) for schema in (one, other)]
    if values[0] is not None and values[1] is not None:
        return not values[0] & values[1]
    if _types(one) & _types(other) != {"object"}:
        return False
    required = set(one.get("required", ())) & set(other.get("required", ()))
    return any(_apart(one, other, name) for name in required)


def _apart(one: FlatSchema, other: FlatSchema, name: str) -> bool:
    inner = [schema.get("properties", {}).get(name) for schema in (one, other)]
    values = [_values(schema) if isinstance(schema, dict) else None for schema in inner]
    return values[0] is not None and values[1] is not None and not values[0] & values[1]


def _values(schema: FlatSchema) -> set[str] | None:
    """Return the values of enum or const in a comparable form: 1 and 1.0 are one value."""
    if "const" in schema:
        return {_canonical(schema["const"])}
    return set(map(_canonical, schema["enum"])) if "enum" in schema else None


def _canonical(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


_ALL_TYPES = frozenset(("object", "array", "string", "number", "boolean", "null"))


def _types(schema: FlatSchema) -> frozenset[str]:
    """Return the types with integers as numbers; all where none is named."""
    named = schema.get("type", _ALL_TYPES)
    names = [named] if isinstance(named, str) else named
    return frozenset("number" if name == "integer" else name for name in names)


def _closed(schema: FlatSchema, other: FlatSchema) -> FlatSchema:
    """Return `schema` with what `other` says of properties that it does not name."""
    rule = other.get("additionalProperties", True)
    mine = schema.get("properties", {})
    if rule is True or not mine:
        return schema
    theirs = other.get("properties", {})
    return {**schema, "properties": {n: s if n in theirs else _both(s, rule) for n, s in mine.items()}}


def _both(one: Any, other: Any) -> Any:
    """Return the schema, not flat, of what both take."""
    if one is True or one == other:
        return other
    if other is True:
        return one
    return False if False in (one, other) else {"allOf": [one, other]}


def _merged_types(one: Any, other: Any) -> list[str]:
    first, second = ([value] if isinstance(value, str) else value for value in (one, other))
    found = [name for name in first if name in second]
    for narrow, wide in ((first, second), (second, first)):
        if "integer" in narrow and "number" in wide and "integer" not in found:
            found.append("integer")
    return found


def _merged_values(one: list[Any], other: list[Any]) -> list[Any]:
    known = set(map(_canonical, other))
    return [value for value in one if _canonical(value) in known]


def _merged_properties(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {**one, **{name: _both(one.get(name, True), schema) for name, schema in other.items()}}


def _merged_required(one: list[str], other: list[str]) -> list[str]:
    return list(dict.fromkeys((*one, *other)))


_MERGES: dict[str, Callable[[Any, Any], Any]] = {
    "type": _merged_types,
    "enum": _merged_values,
    "properties": _merged_properties,
    "required": _merged_required,
    "additionalProperties": _both,
    "items": _both,
    "uniqueItems": lambda one, other: one or other,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
