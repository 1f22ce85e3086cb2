r"""JSON's own grammar: strings, numbers, any value. Compact: at most one space after a colon or comma.

Everything is a little narrower than JSON, so that an answer comes to its end: strings have no \u escapes but for
control characters, numbers no exponents and few digits.
"""

import json
from typing import Any

from services.llm.digits import DIGIT
from services.llm.ebnf import (
    LAST,
    Chars,
    Grammar,
    Node,
    Ranges,
    Text,
    choice,
    intersection,
    optional,
    sequence,
)

MOST_DIGITS, MOST_DECIMALS = 15, 6

_PLAIN: Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, LAST))
_SHORT_ESCAPES = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 0x22: '"', 0x5C: "\\"}
_ANY: Node = choice((Chars(_PLAIN), sequence(Text("\\"), Chars(tuple((ord(c), ord(c)) for c in '"/\\bfnrt')))))

QUOTE = Text('"')
COMMA = sequence(Text(","), optional(Text(" ")))
COLON = sequence(Text(":"), optional(Text(" ")))
BOOLEAN: Node = choice((Text("true"), Text("false")))
NULL: Node = Text("null")


def literal(value: Any) -> Node:
    """Return the text of a JSON value."""
    return Text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def character(of: Ranges) -> Node:
    """Return one of these characters as it stands in a JSON string."""
    parts: list[Node] = []
    if plain := intersection(of, _PLAIN):
        parts.append(Chars(plain))
    for code in (*range(0x20), 0x22, 0x5C):
        if any(first <= code <= last for first, last in of):
            parts.append(Text("\\" + _SHORT_ESCAPES.get(code, f"u{code:04x}")))
    return choice(parts)


def string(grammar: Grammar, least: int = 0, most: int | None = None) -> Node:
    """Return a string of `least` to `most` characters."""
    return sequence(QUOTE, grammar.repeat(_ANY, least, most, QUOTE))


def integer(grammar: Grammar) -> Node:
    """Return an integer."""
    digits = sequence(Chars(((49, 57),)), grammar.repeat(DIGIT, 0, MOST_DIGITS - 1))
    return grammar.rule(choice((Text("0"), sequence(optional(Text("-")), digits))))


def number(grammar: Grammar) -> Node:
    """Return a number."""
    digits = sequence(Chars(((49, 57),)), grammar.repeat(DIGIT, 0, MOST_DIGITS - 1))
    decimals = sequence(Text("."), grammar.repeat(DIGIT, 1, MOST_DECIMALS))
    whole = choice((Text("0"), digits))
    return grammar.rule(sequence(optional(Text("-")), whole, optional(decimals)))


def value(grammar: Grammar) -> Node:
    """Return any value."""
    if grammar.any_value is None:
        grammar.any_value = name = grammar.reserve()
        plain = [string(grammar), number(grammar), BOOLEAN, NULL]
        nested = [mapping(grammar, name), array(grammar, [], name, 0, None)]
        grammar.rules[name.name] = choice([*nested, *plain])
    return grammar.any_value


def mapping(grammar: Grammar, of: Node, least: int = 0, most: int | None = None) -> Node:
    """Return an object with any keys, `least` to `most` of them, and values of one kind."""
    member = grammar.rule(sequence(string(grammar, 1), COLON, of))
    return sequence(Text("{"), _items(grammar, member, least, most, Text("}")))


def array(grammar: Grammar, first: list[Node], rest: Node | None, least: int, most: int | None) -> Node:
    """Return an array: `first` in order, each of which may be missing from `least` on, then items of `rest`."""
    if most is not None:
        first = first[:most]
    end: Node = Text("]")
    if rest is None or most == len(first):
        tail = end
    elif not first:
        return sequence(Text("["), _items(grammar, rest, least, most, end))
    else:
        more = None if most is None else most - len(first)
        tail = grammar.repeat(sequence(COMMA, rest), max(0, least - len(first)), more, end)
    for index in reversed(range(len(first))):
        item = sequence(COMMA, first[index], tail) if index else sequence(first[index], tail)
        tail = item if index < least else choice((end, item))
        tail = grammar.rule(tail)
    return sequence(Text("["), tail)


def _items(grammar: Grammar, item: Node, least: int, most: int | None, end: Node) -> Node:
    if most == 0:
        return end
    more = grammar.repeat(sequence(COMMA, item), max(0, least - 1), None if most is None else most - 1, end)
    some = sequence(item, more)
    return some if least else grammar.rule(choice((end, some)))
