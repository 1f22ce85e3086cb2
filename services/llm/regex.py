r"""Regular expressions as grammar: the part that is a regular language and means the same in every dialect.

Literals, escapes, classes, groups, alternation, quantifiers, ^ and $ at the ends. A match is always of the whole text.
\d, \w and \s are ASCII; their opposites leave out what other dialects count as digits, letters or space.
"""

from collections.abc import Callable
from dataclasses import dataclass

from services.llm.ebnf import (
    EMPTY,
    LAST,
    Chars,
    Grammar,
    Node,
    Ranges,
    Star,
    Text,
    choice,
    complement,
    ranges,
    sequence,
)

MOST_REPEATS, DEEPEST = 256, 50
_SPACE = ((9, 13), (32, 32))
_SHORTHANDS: dict[str, tuple[Ranges, Ranges]] = {  # what is certainly in it, and what may be in some dialect
    "d": (((48, 57),), ((48, 57), (0x660, LAST))),
    "w": (((48, 57), (65, 90), (95, 95), (97, 122)), ((48, 57), (65, 90), (95, 95), (97, 122), (0x80, LAST))),
    "s": (_SPACE, (*_SPACE, (28, 31), (0x85, 0x85), (0xA0, 0xA0), (0x1680, LAST))),
}
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11}
_NO_LINE_END = complement(ranges(((10, 10), (13, 13), (0x85, 0x85), (0x2028, 0x2029))))
_HEX_DIGITS = {"x": 2, "u": 4}


class RegexError(ValueError):
    """The expression is wrong, or cannot be followed. Says what and where."""


@dataclass(frozen=True, slots=True)
class Regex:
    """An expression as grammar."""

    node: Node
    shortest: int
    """Fewest characters of a match."""
    longest: int | None
    """Most characters of a match; None without a bound."""


def compile_regex(pattern: str, grammar: Grammar, one_of: Callable[[Ranges], Node] = Chars) -> Regex:
    """Return the grammar of `pattern`. `one_of` writes a character, for texts in which some are escaped.

    Raises RegexError.
    """
    reader = _Reader(pattern, grammar, one_of)
    found = reader.alternatives(0)
    if not reader.done:
        raise reader.fault("an unmatched )")
    return found


class _Reader:
    def __init__(self, pattern: str, grammar: Grammar, one_of: Callable[[Ranges], Node]) -> None:
        self._pattern, self._grammar, self._one_of = pattern, grammar, one_of
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at >= len(self._pattern)

    def fault(self, what: str) -> RegexError:
        return RegexError(f"{what}, at character {self._at}")

    def takes(self, text: str) -> bool:
        """Whether `text` comes next; then it is read."""
        if self._pattern.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def alternatives(self, depth: int) -> Regex:
        if depth > DEEPEST:
            raise self.fault(f"groups nested deeper than {DEEPEST}")
        parts = [self._sequence(depth)]
        while self.takes("|"):
            parts.append(self._sequence(depth))
        longest = [part.longest for part in parts]
        return Regex(
            choice(part.node for part in parts),
            min(part.shortest for part in parts),
            None if None in longest else max(n for n in longest if n is not None),
        )

    def _sequence(self, depth: int) -> Regex:
        parts: list[Regex] = []
        if not depth:
            self.takes("^")
        while not self.done and self._pattern[self._at] not in "|)":
            if self._pattern[self._at] == "$":
                self._end(depth)
                break
            parts.append(self._quantified(self._atom(depth)))
        longest = [part.longest for part in parts]
        return Regex(
            sequence(*(part.node for part in parts)),
            sum(part.shortest for part in parts),
            None if None in longest else sum(n for n in longest if n is not None),
        )

    def _end(self, depth: int) -> None:
        self._at += 1
        if depth or not (self.done or self._pattern[self._at] == "|"):
            raise self.fault("$ is supported at the end only")

    def _quantified(self, atom: Regex) -> Regex:
        bounds = self._bounds()
        if bounds is None:
            return atom
        self.takes("?")  # lazy: the same texts
        if not self.done and (self._pattern[self._at] in "*+?" or self._bounds_follow()):
            raise self.fault("a second quantifier")
        least, most = bounds
        if max(least, most or 0) > MOST_REPEATS:
            raise self.fault(f"more than {MOST_REPEATS} repeats")
        node = self._repeated(atom.node, least, most)
        longest = None if most is None or atom.longest is None else most * atom.longest
        return Regex(node, least * atom.shortest, 0 if atom.longest == 0 else longest)

    def _repeated(self, node: Node, least: int, most: int | None) -> Node:
        if most is None:
            return sequence(*[node] * least, Star(node))
        return self._grammar.repeat(node, least, most)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.takes(sign):
                return bounds
        return self._counted() if self._bounds_follow() else None

    def _bounds_follow(self) -> bool:
        return not self.done and self._pattern[self._at] == "{"

    def _counted(self) -> tuple[int, int | None]:
        end = self._pattern.find("}", self._at)
        least, comma, most = self._pattern[self._at + 1 : max(end, 0)].partition(",")
        if not (least.isascii() and least.isdigit()) or not (most == "" or (most.isascii() and most.isdigit())):
            raise self.fault("a { that is no quantifier; write \\{")
        bounds = int(least[:9]), (int(most[:9]) if most else None if comma else int(least[:9]))
        if bounds[1] is not None and bounds[0] > bounds[1]:
            raise self.fault("a quantifier whose least is above its most")
        self._at = end + 1
        return bounds

    def _atom(self, depth: int) -> Regex:
        character = self._pattern[self._at]
        if character == "(":
            return self._group(depth)
        if character == "[":
            return self._character(self._class())
        if character in "*+?{":
            raise self.fault("a quantifier with nothing before it")
        if character == "^":
            raise self.fault("^ is supported at the start only")
        self._at += 1
        if character == ".":
            return self._character(_NO_LINE_END)
        if character == "\\":
            inside, _ = self._escape()
            return self._character(inside)
        return self._character(((ord(character), ord(character)),))

    def _character(self, of: Ranges) -> Regex:
        if len(of) == 1 and of[0][0] == of[0][1] and self._one_of is Chars:
            return Regex(Text(chr(of[0][0])), 1, 1)
        return Regex(self._one_of(of), 1, 1)

    def _group(self, depth: int) -> Regex:
        self._at += 1
        if self.takes("?") and not self.takes(":"):
            if not (self.takes("P<") or self.takes("<")) or self._pattern[self._at : self._at + 1] in ("=", "!"):
                raise self.fault("lookaround, flags and other special groups are not supported")
            end = self._pattern.find(">", self._at)
            if end < 0 or not self._pattern[self._at : end].isidentifier():
                raise self.fault("a group with a malformed name")
            self._at = end + 1
        found = self.alternatives(depth + 1)
        if not self.takes(")"):
            raise self.fault("a ( without its )")
        return Regex(EMPTY if found.longest == 0 else found.node, found.shortest, found.longest)

    def _escape(self) -> tuple[Ranges, Ranges]:
        """Return what an escape certainly stands for, and what it may stand for in some dialect."""
        if self.done:
            raise self.fault("a \\ at the end")
        letter = self._pattern[self._at]
        self._at += 1
        if letter in _SHORTHANDS:
            return _SHORTHANDS[letter]
        if letter.lower() in _SHORTHANDS:
            inside, perhaps = _SHORTHANDS[letter.lower()]
            return complement(ranges(perhaps)), complement(inside)
        code = self._code(letter)
        return ((code, code),), ((code, code),)

    def _code(self, letter: str) -> int:
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter in _HEX_DIGITS:
            return self._hexadecimal(_HEX_DIGITS[letter])
        if letter.isalnum():
            raise self.fault(f"\\{letter} is not supported")
        return ord(letter)

    def _hexadecimal(self, digits: int) -> int:
        text = self._pattern[self._at : self._at + digits]
        if len(text) < digits or any(digit not in "0123456789abcdefABCDEF" for digit in text):
            raise self.fault("an escape without its hexadecimal digits")
        self._at += digits
        code = int(text, 16)
        if 0xD800 <= code <= 0xDFFF or code == 0:
            raise self.fault("a code that is no character of a text")
        return code

    def _class(self) -> Ranges:
        self._at += 1
        negated = self.takes("^")
        inside: list[tuple[int, int]] = []
        perhaps: list[tuple[int, int]] = []
        first = True
        while first or not self.takes("]"):
            if self.done:
                raise self.fault("a [ without its ]")
            first = False
            certain, possible = self._class_item()
            inside += certain
            perhaps += possible
        found = complement(ranges(perhaps)) if negated else ranges(inside)
        if not found:
            raise self.fault("a class with nothing in it")
        return found

    def _class_item(self) -> tuple[Ranges, Ranges]:
        low, possible = self._class_character()
        if not self._pattern.startswith("-", self._at) or self._pattern.startswith("-]", self._at):
            return low, possible
        self._at += 1
        high, _ = self._class_character()
        if any(len(end) != 1 or end[0][0] != end[0][1] for end in (low, high)) or low[0][0] > high[0][0]:
            raise self.fault("a malformed range in a class")
        found = ((low[0][0], high[0][0]),)
        return found, found

    def _class_character(self) -> tuple[Ranges, Ranges]:
        if self.done:
            raise self.fault("a [ without its ]")
        character = self._pattern[self._at]
        self._at += 1
        if character == "\\":
            return self._escape()
        if character == "[" and self._pattern[self._at : self._at + 1] in (":", ".", "="):
            raise self.fault("POSIX classes are not supported")
        return ((ord(character), ord(character)),), ((ord(character), ord(character)),)
