"""JSON Schema to grammar, for the keywords that a grammar can enforce; any other is refused by its name and place.

The grammar may be narrower than the schema (no properties beyond those named, bounded depth and digits), never wider,
with one exception: a maxLength, maxItems or maxProperties above MOST_COUNTED is not counted, because the engine takes
seconds to compile so long a chain. Whoever uses the grammar checks the finished value and knows such an answer for one
that ran into a limit; see output_format.
https://json-schema.org/draft/2020-12/json-schema-validation
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, SchemaError
from jsonschema.validators import extend

from services.llm import json_text
from services.llm.digits import between
from services.llm.ebnf import NEVER, Grammar, Name, Node, Text, choice, sequence
from services.llm.json_formats import FORMATS
from services.llm.regex import RegexError, compile_regex
from services.llm.schema_merging import MergeError, disjoint, merged

MOST_CHARACTERS, DEEPEST, MOST_PARTS = 65_536, 32, 4_000
MOST_COUNTED, MOST_MULTIPLES = 50, 512

_TEXTS = ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
_OTHERS = ("$schema", "$id", "$comment", "$defs", "definitions", "contentMediaType", "contentEncoding")
ANNOTATIONS = frozenset((*_TEXTS, *_OTHERS))
_OF_TYPE = {
    "object": "properties required additionalProperties minProperties maxProperties",
    "array": "items prefixItems minItems maxItems uniqueItems",
    "string": "minLength maxLength pattern format",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
}
_SUPPORTED = frozenset(
    " ".join(("type enum const anyOf oneOf allOf $ref", *_OF_TYPE.values())).split(),
)
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


def _by_grammar(*_: Any) -> Iterator[SchemaError]:
    """Patterns are enforced by the grammar; to match them again in another dialect could only be wrong, or slow."""
    return iter(())


Validator = extend(Draft202012Validator, {"pattern": _by_grammar})

Schema = Mapping[str, Any] | bool


class UnsupportedSchemaError(ValueError):
    """The schema is wrong, or asks for what cannot be enforced. Says what and where."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")


def parse(text: str) -> Schema:
    """Return the schema in a JSON document. Raises UnsupportedSchemaError unless it is a JSON Schema of a sane size."""
    if len(text) > MOST_CHARACTERS:
        raise UnsupportedSchemaError("#", f"the schema has {len(text)} characters; the limit is {MOST_CHARACTERS}")
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise UnsupportedSchemaError("#", f"the schema is nested deeper than {DEEPEST} levels") from None
    except ValueError as error:
        raise UnsupportedSchemaError("#", f"not a JSON document: {error}") from None
    if not isinstance(schema, dict | bool):
        raise UnsupportedSchemaError("#", "a schema is an object")
    _check_size(schema)
    try:
        Draft202012Validator.check_schema(schema, FormatChecker(()))
    except SchemaError as error:
        path = "/".join(["#", *map(str, error.absolute_path)])
        raise UnsupportedSchemaError(path, f"not a valid JSON Schema: {error.message[:200]}") from None
    return schema


def compile_schema(schema: Schema, grammar: Grammar) -> Node:
    """Return the grammar of the JSON values that `schema` takes. Raises UnsupportedSchemaError."""
    try:
        return _Compiler(schema, grammar).node(schema, "#")
    except RecursionError:
        raise UnsupportedSchemaError("#", "the schema leads back to itself in too many ways") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_size(schema: Any) -> None:
    parts, level = 0, [schema]
    for _ in range(2 * DEEPEST):
        parts += len(level)
        if parts > MOST_PARTS:
            raise UnsupportedSchemaError("#", f"the schema has more than {MOST_PARTS} parts")
        level = [inner for part in level for inner in _inside(part)]
        if not level:
            return
    raise UnsupportedSchemaError("#", f"the schema is nested deeper than {DEEPEST} levels")


def _inside(part: Any) -> Iterator[Any]:
    if isinstance(part, dict):
        yield from part.values()
    elif isinstance(part, list):
        yield from part


class _Compiler:
    """The grammar of one schema. A `path` is a JSON pointer, for messages."""

    def __init__(self, root: Schema, grammar: Grammar) -> None:
        self._root, self._grammar = root, grammar
        self._references: dict[str, Name] = {}

    def node(self, schema: Schema, path: str) -> Node:
        """Return the grammar of one schema."""
        if isinstance(schema, bool):
            return json_text.value(self._grammar) if schema else NEVER
        if "$ref" in schema and not schema.keys() - ANNOTATIONS - {"$ref"}:
            return self._reference(schema["$ref"], path)
        return self._flat(self._flatten(schema, path), path)

    def _reference(self, reference: str, path: str) -> Node:
        if reference not in self._references:
            target = self._resolve(reference, path)
            name = self._references[reference] = self._grammar.reserve()
            self._grammar.rules[name.name] = self.node(target, reference)
        return self._references[reference]

    def _resolve(self, reference: str, path: str) -> Schema:
        if reference != "#" and not reference.startswith("#/"):
            raise UnsupportedSchemaError(
                path, f"$ref '{reference[:100]}': only references inside the document (#/...) work"
            )
        found: Any = self._root
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, dict) and key in found:
                found = found[key]
            else:
                raise UnsupportedSchemaError(path, f"$ref '{reference[:100]}' leads nowhere")
        if not isinstance(found, dict | bool):
            raise UnsupportedSchemaError(path, f"$ref '{reference[:100]}' is no schema")
        return found

    def _flatten(self, schema: Schema, path: str, depth: int = 0) -> dict[str, Any]:
        """Return the schema without $ref, allOf and annotations at its top."""
        if isinstance(schema, bool):
            return {} if schema else {"enum": []}
        if depth > DEEPEST:
            raise UnsupportedSchemaError(path, "$ref or allOf leads back to itself")
        self._check_keywords(schema, path)
        own = {key: value for key, value in schema.items() if key not in ANNOTATIONS and key[:2] != "x-"}
        parts = list(own.pop("allOf", ()))
        if "$ref" in own:
            parts.append(self._resolve(own.pop("$ref"), path))
        for part in parts:
            own = self._merged(own, self._flatten(part, path, depth + 1), path)
        return own

    def _check_keywords(self, schema: Mapping[str, Any], path: str) -> None:
        for key in schema:
            if key not in _SUPPORTED and key not in ANNOTATIONS and key[:2] != "x-":
                raise UnsupportedSchemaError(path, f"the keyword '{key[:100]}' is not supported")
        if "$id" in schema and path != "#":
            raise UnsupportedSchemaError(path, "the keyword '$id' is supported at the root only")

    def _merged(self, one: dict[str, Any], other: dict[str, Any], path: str) -> dict[str, Any]:
        try:
            return merged(one, other)
        except MergeError as conflict:
            raise UnsupportedSchemaError(path, str(conflict)) from None

    def _flat(self, schema: dict[str, Any], path: str) -> Node:
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._union(keyword, schema, path)
        if "const" in schema or "enum" in schema:
            return self._values(schema, path)
        return choice(self._of_type(name, schema, path) for name in self._types(schema))

    def _union(self, keyword: str, schema: dict[str, Any], path: str) -> Node:
        rest = {key: value for key, value in schema.items() if key != keyword}
        flat = [self._flatten(m, f"{path}/{keyword}/{i}") for i, m in enumerate(schema[keyword])]
        if keyword == "oneOf" and not all(disjoint(a, b) for i, a in enumerate(flat) for b in flat[:i]):
            raise UnsupportedSchemaError(
                path, "oneOf whose members are not told apart by type, const or enum is not supported; use anyOf"
            )
        if not rest:  # members that are references only keep their rules, for recursion
            return choice(self.node(m, f"{path}/{keyword}/{i}") for i, m in enumerate(schema[keyword]))
        members = (self._merged(rest, member, f"{path}/{keyword}/{i}") for i, member in enumerate(flat))
        return choice(self._flat(member, f"{path}/{keyword}/{i}") for i, member in enumerate(members))

    def _values(self, schema: dict[str, Any], path: str) -> Node:
        if "pattern" in schema:
            raise UnsupportedSchemaError(path, "the keyword 'pattern' beside enum or const is not supported")
        values = schema.get("enum", [schema.get("const")])
        validator = Validator({**self._definitions(), **schema})
        return choice(json_text.literal(value) for value in values if validator.is_valid(value))

    def _definitions(self) -> dict[str, Any]:
        """Return what references may lead to, for the validation of single values."""
        if isinstance(self._root, bool):
            return {}
        return {key: self._root[key] for key in ("$defs", "definitions") if key in self._root}

    def _types(self, schema: dict[str, Any]) -> Sequence[str]:
        """Return the types to write: those named, else those that the other keywords are about, else all."""
        if "type" in schema:
            named = schema["type"]
            return [named] if isinstance(named, str) else named
        about = [name for name, keywords in _OF_TYPE.items() if schema.keys() & set(keywords.split())]
        return about or [name for name in _TYPES if name != "integer"]

    def _of_type(self, name: str, schema: dict[str, Any], path: str) -> Node:
        match name:
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "string":
                return self._string(schema, path)
            case "boolean":
                return json_text.BOOLEAN
            case "null":
                return json_text.NULL
            case _:
                return self._number(name, schema, path)

    def _object(self, schema: dict[str, Any], path: str) -> Node:
        properties: dict[str, Schema] = dict(schema.get("properties", {}))
        additional: Schema = schema.get("additionalProperties", True)
        required = set(schema.get("required", ()))
        for name in schema.get("required", ()):
            properties.setdefault(name, additional)
        least, most = schema.get("minProperties", 0), schema.get("maxProperties")
        if not properties:
            return self._mapping(additional, int(least), most, path)
        if least > len(required):
            raise UnsupportedSchemaError(path, "the keyword 'minProperties' above the number of required properties")
        if most is not None and most < len(properties):
            raise UnsupportedSchemaError(path, "the keyword 'maxProperties' below the number of properties")
        members = [
            (sequence(json_text.literal(name), json_text.COLON, self._property(inner, path, name)), name in required)
            for name, inner in properties.items()
        ]
        return self._members(members)

    def _property(self, schema: Schema, path: str, name: str) -> Node:
        return self.node(schema, f"{path}/properties/{name.replace('~', '~0').replace('/', '~1')[:100]}")

    def _mapping(self, of: Schema, least: int, most: Any, path: str) -> Node:
        if least > 1:
            raise UnsupportedSchemaError(
                path, "the keyword 'minProperties' above 1 without properties"
            )  # keys may repeat
        value = self.node(of, f"{path}/additionalProperties")
        if value == NEVER or most == 0:
            return NEVER if least else Text("{}")
        bound = None if most is None or most > MOST_COUNTED else int(most)
        return json_text.mapping(self._grammar, value, least, bound)

    def _members(self, members: list[tuple[Node, bool]]) -> Node:
        """Return an object with these members in their order; those not required may be missing."""
        grammar = self._grammar
        after: Node = Text("}")  # what may follow once a member stands
        first: Node = after  # what may follow {
        for member, is_required in reversed(members):
            more, begin = sequence(json_text.COMMA, member, after), sequence(member, after)
            if is_required:
                after, first = grammar.rule(more), begin
            else:
                after, first = grammar.rule(choice((more, after))), grammar.rule(choice((begin, first)))
        return sequence(Text("{"), first)

    def _array(self, schema: dict[str, Any], path: str) -> Node:
        first = [self.node(s, f"{path}/prefixItems/{i}") for i, s in enumerate(schema.get("prefixItems", ()))]
        rest: Node | None = self.node(schema.get("items", True), f"{path}/items")
        least, most = self._bounds(schema, "minItems", "maxItems", path)
        if schema.get("uniqueItems") and (most is None or most > 1):
            raise UnsupportedSchemaError(path, "the keyword 'uniqueItems' is not supported")
        if rest == NEVER:
            rest, most = None, min(len(first), len(first) if most is None else most)
        if most is not None and least > most:
            return NEVER
        return json_text.array(self._grammar, first, rest, least, most)

    def _bounds(self, schema: dict[str, Any], low: str, high: str, path: str) -> tuple[int, int | None]:
        least, most = int(schema.get(low, 0)), schema.get(high)
        if least > MOST_COUNTED:
            raise UnsupportedSchemaError(path, f"the keyword '{low}' above {MOST_COUNTED} is not supported")
        return least, None if most is None or most > MOST_COUNTED else int(most)

    def _string(self, schema: dict[str, Any], path: str) -> Node:
        pattern = schema.get("pattern")
        if "format" in schema:
            if pattern is not None or schema["format"] not in FORMATS:
                raise UnsupportedSchemaError(path, f"the format '{schema['format'][:100]}' is not supported here")
            pattern = FORMATS[schema["format"]]
        if pattern is not None:
            return self._pattern(pattern, schema, path)
        least, most = self._bounds(schema, "minLength", "maxLength", path)
        if most is not None and least > most:
            return NEVER
        return self._grammar.rule(json_text.string(self._grammar, least, most))

    def _pattern(self, pattern: str, schema: dict[str, Any], path: str) -> Node:
        try:
            found = compile_regex(pattern, self._grammar, json_text.character)
        except RegexError as error:
            raise UnsupportedSchemaError(path, f"the pattern is not supported: {error}") from None
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if found.shortest < least or (most is not None and (found.longest is None or found.longest > most)):
            raise UnsupportedSchemaError(
                path, "minLength or maxLength beside a pattern or format that does not keep them"
            )
        return self._grammar.rule(sequence(json_text.QUOTE, found.node, json_text.QUOTE))

    def _number(self, name: str, schema: dict[str, Any], path: str) -> Node:
        low, high = _bound(schema, "minimum", "exclusiveMinimum", 1), _bound(schema, "maximum", "exclusiveMaximum", -1)
        step = schema.get("multipleOf", 1 if name == "integer" else None)
        if step is not None and (name == "number" or step != 1):
            return self._multiples(name, low, high, step, path)
        if low is None and high is None:
            return json_text.integer(self._grammar) if name == "integer" else json_text.number(self._grammar)
        furthest = Decimal(10) ** json_text.MOST_DIGITS
        if low is None and high is not None:
            low = (min(-furthest, high[0] - furthest), False)
        if high is None and low is not None:
            high = (max(furthest, low[0] + furthest), False)
        assert low is not None and high is not None  # noqa: S101  # both are set above
        whole = between(_scaled(low, 0, ROUND_CEILING), _scaled(high, 0, ROUND_FLOOR))
        if name == "integer":
            return self._grammar.rule(whole)
        decimals = _decimals(low[0], high[0])
        exact = between(_scaled(low, decimals, ROUND_CEILING), _scaled(high, decimals, ROUND_FLOOR), decimals)
        return self._grammar.rule(choice((whole, exact)))

    def _multiples(self, name: str, low: Any, high: Any, step: Any, path: str) -> Node:
        if name == "number" or step != int(step) or low is None or high is None:
            raise UnsupportedSchemaError(
                path, "the keyword 'multipleOf' is supported for integers with two bounds only"
            )
        first, last = _scaled(low, 0, ROUND_CEILING), _scaled(high, 0, ROUND_FLOOR)
        values = range(-(-first // int(step)) * int(step), last + 1, int(step))
        if len(values) > MOST_MULTIPLES:
            raise UnsupportedSchemaError(path, f"the keyword 'multipleOf' with more than {MOST_MULTIPLES} values")
        return choice(Text(str(value)) for value in values)


Bound = tuple[Decimal, bool]


def _bound(schema: dict[str, Any], inclusive: str, exclusive: str, sign: int) -> Bound | None:
    """Return the stronger of two bounds and whether it is exclusive; `sign` is 1 for a lower one."""
    found = [(Decimal(str(schema[key])), key == exclusive) for key in (inclusive, exclusive) if key in schema]
    return max(found, key=lambda bound: (sign * bound[0], bound[1])) if found else None


def _decimals(low: Decimal, high: Decimal) -> int:
    """Return how many decimals to write: what the bounds have, and enough to have a choice between them."""
    own = max(0, *(-int(bound.normalize().as_tuple().exponent) for bound in (low, high)))
    return max(1, min(own + 1, 12)) if high - low < 10 else max(2, min(own, 12))


def _scaled(bound: Bound, decimals: int, rounding: str) -> int:
    """Return the last integer inside the bound, in units of 10^-decimals."""
    value, exclusive = bound[0].scaleb(decimals), bound[1]
    inside = int(value.to_integral_value(rounding))
    if exclusive and inside == value:
        inside += 1 if rounding == ROUND_CEILING else -1
    return inside
