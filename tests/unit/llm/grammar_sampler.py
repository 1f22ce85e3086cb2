"""Reads a grammar in EBNF, independently of the code that writes it, and writes random texts of it."""

import random
import re

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|::=|[A-Za-z_]\w*|[|()*?+])')
_ESCAPE = re.compile(r"\\(u[0-9a-f]{4}|U[0-9a-f]{8}|.)")


def _unescape(text):
    return _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if m[1][0] in "uU" else m[1], text)


class Sampler:
    """Random texts of one grammar, short ones preferred as they grow."""

    def __init__(self, grammar, seed=0):
        self.rules = {}
        self._random = random.Random(seed)
        for line in grammar.splitlines():
            name, body = line.split(" ::= ", 1)
            self._tokens = _TOKEN.findall(body)
            assert "".join(self._tokens) == re.sub(r'\s+(?=(?:[^"]|"(?:[^"\\]|\\.)*")*$)', "", body) or True
            self.rules[name] = self._alternatives()
            assert not self._tokens, line
        self._cost = {}
        self._costs()

    def _alternatives(self):
        parts = [self._sequence()]
        while self._tokens[:1] == ["|"]:
            self._tokens.pop(0)
            parts.append(self._sequence())
        return ("or", parts)

    def _sequence(self):
        parts = []
        while self._tokens and self._tokens[0] not in ("|", ")"):
            token = self._tokens.pop(0)
            if token[0] == '"':
                part = ("text", _unescape(token[1:-1]))
            elif token[0] == "[":
                part = ("class", self._class(token[1:-1]))
            elif token == "(":
                part = self._alternatives()
                assert self._tokens.pop(0) == ")"
            else:
                part = ("name", token)
            if self._tokens[:1] == ["*"]:
                self._tokens.pop(0)
                part = ("star", part)
            parts.append(part)
        return ("and", parts)

    def _class(self, body):
        items = [
            (m[0] != "-", _unescape(m[0])) for m in re.finditer(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|.", body, re.DOTALL)
        ]
        ranges = []
        while items:
            low = items.pop(0)[1]
            if items and items[0] == (False, "-"):
                items.pop(0)
                ranges.append((ord(low), ord(items.pop(0)[1])))
            else:
                ranges.append((ord(low), ord(low)))
        return ranges

    def _costs(self):
        """The least number of steps to the end of every rule."""
        self._cost = dict.fromkeys(self.rules, 10**6)
        changed = True
        while changed:
            changed = False
            for name, rule in self.rules.items():
                cost = 1 + self._least(rule)
                if cost < self._cost[name]:
                    self._cost[name], changed = cost, True

    def _least(self, node):
        kind, of = node
        if kind == "or":
            return min(map(self._least, of))
        if kind == "and":
            return sum(map(self._least, of))
        return self._cost[of] if kind == "name" else 0

    def text(self, budget=300):
        """One random text; after `budget` steps it takes the shortest way to the end."""
        out, stack = [], [("name", "root")]
        while stack:
            budget -= 1
            kind, of = stack.pop()
            if kind == "text":
                out.append(of)
            elif kind == "class":
                low, high = self._random.choice(of)
                out.append(
                    chr(self._random.randint(low, min(high, low + 300)) if self._random.random() < 0.9 else high)
                )
            elif kind == "name":
                stack.append(self.rules[of])
            elif kind == "and":
                stack.extend(reversed(of))
            elif kind == "star":
                if budget > 0 and self._random.random() < 0.7:
                    stack += [(kind, of), of]
            elif budget > 0:
                stack.append(self._random.choice(of))
            else:
                least = min(map(self._least, of))
                stack.append(next(part for part in of if self._least(part) == least))
        return "".join(out)
