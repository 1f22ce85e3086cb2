"""Constraints on an answer: a grammar for the engine, and a check of the finished text."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import ServiceError, invalid
from services.llm import json_text
from services.llm.ebnf import Grammar, Text, choice
from services.llm.json_schema import Schema, UnsupportedSchemaError, Validator, compile_schema, parse
from services.llm.regex import RegexError, compile_regex

MOST_OPTIONS, MOST_PATTERN_CHARACTERS, MOST_GRAMMAR_CHARACTERS = 256, 4_096, 65_536
_UNCOUNTED = frozenset(("maxLength", "maxItems", "maxProperties"))


class OverrunError(ValueError):
    """A finished answer is longer than its schema allows; the grammar does not count that far."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an answer must be."""

    field: str
    """Its place in the request, for messages."""
    grammar: str
    """EBNF for the engine."""
    check: Callable[[str], None]
    """Raises ValueError for a finished text that is not in order, OverrunError where it only is too long."""


def read_format(format_: pb.OutputFormat) -> Constraint | None:
    """Return the constraint of a request, None for free text. Raises INVALID_ARGUMENT that names the field."""
    match format_.WhichOneof("format"):
        case "json_object":
            return _json_object() if format_.json_object else None
        case "json_schema":
            return _json_schema(format_.json_schema)
        case "regex":
            return _regex(format_.regex)
        case "choice":
            return _choice(format_.choice)
        case "grammar":
            return _grammar(format_.grammar)
        case _:
            return None


def check_value(schema: Schema, text: str) -> None:
    """Raise ValueError unless `text` is JSON that validates, OverrunError where it is too long in a way."""
    errors = list(Validator(schema).iter_errors(json.loads(text)))
    if not errors:
        return
    if all(error.validator in _UNCOUNTED for error in errors):
        raise OverrunError(errors[0].message)
    worst = next(error for error in errors if error.validator not in _UNCOUNTED)
    raise ValueError(f"{worst.json_path}: keyword {worst.validator}")


def unsatisfiable(field: str) -> ServiceError:
    """Return the error for a constraint that no text keeps."""
    return invalid(field, f"{field}: no value of finite length satisfies it")


def _json_object() -> Constraint:
    grammar = Grammar()
    text = grammar.text(json_text.mapping(grammar, json_text.value(grammar)))
    assert text is not None  # noqa: S101  # there are JSON objects
    return Constraint("format.json_object", text, lambda answer: check_value({"type": "object"}, answer))


def _json_schema(document: str) -> Constraint:
    field = "format.json_schema"
    grammar = Grammar()
    try:
        schema = parse(document)
        text = grammar.text(compile_schema(schema, grammar))
    except UnsupportedSchemaError as fault:
        raise invalid(field, f"{field}: {fault}") from None
    if text is None:
        raise unsatisfiable(field)
    return Constraint(field, text, lambda answer: check_value(schema, answer))


def _regex(pattern: str) -> Constraint:
    field = "format.regex"
    if not 1 <= len(pattern) <= MOST_PATTERN_CHARACTERS:
        raise invalid(field, f"{field} has {len(pattern)} characters; it takes 1 to {MOST_PATTERN_CHARACTERS}")
    grammar = Grammar()
    try:
        text = grammar.text(compile_regex(pattern, grammar).node)
    except RegexError as error:
        raise invalid(field, f"{field}: {error}") from None
    if text is None:
        raise unsatisfiable(field)
    return Constraint(field, text, _in_order)


def _choice(choice_: pb.Choice) -> Constraint:
    field, options = "format.choice", list(choice_.options)
    if not 1 <= len(options) <= MOST_OPTIONS:
        raise invalid(f"{field}.options", f"{field}.options has {len(options)} items; it takes 1 to {MOST_OPTIONS}")
    for index, option in enumerate(options):
        if not option or "\0" in option:
            path = f"{field}.options[{index}]"
            raise invalid(path, f"{path} is empty or has a character that no answer can have")

    def check(answer: str) -> None:
        if answer not in options:
            raise ValueError("not among the options")

    text = Grammar().text(choice(map(Text, options)))
    assert text is not None  # noqa: S101  # there is an option
    return Constraint(field, text, check)


def _grammar(grammar: str) -> Constraint:
    field = "format.grammar"
    if not 1 <= len(grammar) <= MOST_GRAMMAR_CHARACTERS:
        raise invalid(field, f"{field} has {len(grammar)} characters; it takes 1 to {MOST_GRAMMAR_CHARACTERS}")
    return Constraint(field, grammar, _in_order)


def _in_order(_: str) -> None:
    """What only the engine can judge."""
