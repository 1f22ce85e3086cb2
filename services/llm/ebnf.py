"""Grammars as trees, and their text in the engine's EBNF (GBNF's notation: `name ::= "text" | [a-z] other*`).

Bounded repetition is written as a chain of rules: the engine compiles and follows that far faster than `x{0,50}`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

Ranges = tuple[tuple[int, int], ...]
"""Code points as inclusive, sorted, disjoint ranges."""
LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


@dataclass(frozen=True, slots=True)
class Text:
    """Exactly this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of these."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after another."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them; of none, nothing matches."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Star:
    """Any number of times."""

    item: "Node"


@dataclass(frozen=True, slots=True)
class Name:
    """A rule."""

    name: str


Node = Text | Chars | Sequence | Choice | Star | Name
EMPTY = Text("")
NEVER = Choice(())


def sequence(*items: Node) -> Node:
    """Return the items one after another."""
    kept = tuple(item for item in items if item != EMPTY)
    if NEVER in kept:
        return NEVER
    return kept[0] if len(kept) == 1 else Sequence(kept) if kept else EMPTY


def choice(items: Iterable[Node]) -> Node:
    """Return one of the items."""
    kept = tuple(dict.fromkeys(item for item in items if item != NEVER))
    return kept[0] if len(kept) == 1 else Choice(kept)


def optional(item: Node) -> Node:
    """Return the item or nothing."""
    return choice((EMPTY, item))


def ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Return pairs of code points sorted and joined."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def complement(of: Ranges) -> Ranges:
    """Return all other code points that can stand in UTF-8; NUL is not among them."""
    gaps, start = [], 1
    for first, last in ranges((*of, _SURROGATES)):
        if start < first:
            gaps.append((start, first - 1))
        start = max(start, last + 1)
    return tuple(gaps) if start > LAST else (*gaps, (start, LAST))


def intersection(one: Ranges, other: Ranges) -> Ranges:
    """Return what is in both."""
    pairs = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return ranges((first, last) for first, last in pairs if first <= last)


@dataclass(slots=True)
class Grammar:
    """Rules by name. Equal bodies share a rule."""

    rules: dict[str, Node] = field(default_factory=dict)
    any_value: Name | None = None
    """The rule of any JSON value, once there is one."""
    _names: dict[Node, Name] = field(default_factory=dict)
    _loops: dict[tuple[Node, Node], Name] = field(default_factory=dict)

    def rule(self, body: Node) -> Name:
        """Return the rule with this body."""
        if body not in self._names:
            name = self.reserve()
            self.rules[name.name] = body
            self._names[body] = name
        return self._names[body]

    def reserve(self) -> Name:
        """Return a new rule whose body is set later, in `rules`; for recursion."""
        name = f"r{len(self.rules)}"
        self.rules[name] = NEVER
        return Name(name)

    def repeat(self, item: Node, least: int, most: int | None, end: Node = EMPTY) -> Node:
        """Return `item` so many times (`most` None: without a bound), then `end`.

        `end` in the chain, rather than after it, lets the engine decide most tokens beforehand.
        """
        if most is None:
            tail: Node = self._endless(item, end)
        else:
            tail = end
            for _ in range(most - least):
                tail = self.rule(choice((end, sequence(item, tail))))
        for _ in range(least):
            tail = self.rule(sequence(item, tail)) if least > 1 else sequence(item, tail)
        return tail

    def _endless(self, item: Node, end: Node) -> Name:
        if (item, end) not in self._loops:
            loop = self._loops[item, end] = self.reserve()
            self.rules[loop.name] = choice((end, sequence(item, loop)))
        return self._loops[item, end]

    def text(self, root: Node) -> str | None:
        """Return the grammar in EBNF with `root` as its root, without what can never end. None: nothing matches."""
        finite = self._finite()
        if not _ends(root, finite):
            return None
        lines = [f"root ::= {_body(_pruned(root, finite))}"]
        lines += [f"{name} ::= {_body(_pruned(self.rules[name], finite))}" for name in self._used(root, finite)]
        return "\n".join(lines) + "\n"

    def _finite(self) -> set[str]:
        """Return the rules that some text of finite length matches."""
        finite: set[str] = set()
        while found := {n for n, body in self.rules.items() if n not in finite and _ends(body, finite)}:
            finite |= found
        return finite

    def _used(self, root: Node, finite: set[str]) -> list[str]:
        used: dict[str, None] = {}
        waiting = [root]
        while waiting:
            for name in _names(_pruned(waiting.pop(), finite)):
                if name not in used:
                    used[name] = None
                    waiting.append(self.rules[name])
        return list(used)


def _ends(node: Node, finite: set[str]) -> bool:
    match node:
        case Name(name):
            return name in finite
        case Sequence(items):
            return all(_ends(item, finite) for item in items)
        case Choice(items):
            return any(_ends(item, finite) for item in items)
        case Chars(found):
            return bool(found)
        case _:
            return True


def _pruned(node: Node, finite: set[str]) -> Node:
    match node:
        case Choice(items):
            return choice(_pruned(item, finite) for item in items if _ends(item, finite))
        case Sequence(items):
            return sequence(*(_pruned(item, finite) for item in items))
        case Star(item):
            return Star(_pruned(item, finite)) if _ends(item, finite) else EMPTY
        case _:
            return node


def _names(node: Node) -> list[str]:
    match node:
        case Name(name):
            return [name]
        case Sequence(items) | Choice(items):
            return [name for item in items for name in _names(item)]
        case Star(item):
            return _names(item)
        case _:
            return []


def _body(node: Node) -> str:
    if isinstance(node, Choice):
        return " | ".join(_term(item) for item in node.items)
    return _term(node)


def _term(node: Node) -> str:
    match node:
        case Text(text):
            return '"' + "".join(map(_in_text, text)) + '"'
        case Chars(found):
            return "[" + "".join(map(_range, found)) + "]"
        case Sequence(items):
            return " ".join(map(_term, items))
        case Choice():
            return f"({_body(node)})"
        case Star(item):
            return f"({_body(item)})*"
        case Name(name):
            return name


def _in_text(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isascii() and character.isprintable() else _escape(ord(character))


def _range(pair: tuple[int, int]) -> str:
    first, last = map(_in_class, pair)
    return first if pair[0] == pair[1] else f"{first}-{last}"


def _in_class(code: int) -> str:
    return chr(code) if chr(code).isascii() and chr(code).isalnum() else _escape(code)


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
