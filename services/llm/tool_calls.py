"""Tool calls in an answer: the grammar that makes the engine write valid ones, and their pieces as they stream.

answer ::= text calls?      where tools may be called; `text` never has the tag that begins a call
answer ::= calls            where one must be
call   ::= <tool_call> {"name": "...", "arguments": {...}} </tool_call>
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import invalid
from services.llm.ebnf import EMPTY, Chars, Grammar, Node, Text, choice, complement, ranges, sequence
from services.llm.json_schema import UnsupportedSchemaError, compile_schema
from services.llm.output_format import Constraint, check_value, unsatisfiable
from services.llm.tool_text import CALL_BEGIN, CALL_END
from services.llm.tools import Tool, ToolUse

_NAME, _ARGUMENTS = '{"name": "', '", "arguments": '
_AFTER_ARGUMENTS = "}\n" + CALL_END


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a tool call: id and name in the first, text of the arguments in the others."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


def constraint(use: ToolUse) -> Constraint:
    """Return what an answer must be that may, or must, call tools. Raises INVALID_ARGUMENT that names the tool."""
    grammar = Grammar()
    one = grammar.rule(choice([_call(grammar, tool) for tool in use.allowed]))
    more = grammar.repeat(sequence(Text("\n" + CALL_BEGIN), one), 0, None) if use.parallel else Text("")
    calls = grammar.rule(sequence(one, more))
    text = grammar.text(sequence(Text(CALL_BEGIN), calls) if use.forced else _text_or(grammar, calls))
    if text is None:
        raise unsatisfiable("tools")
    return Constraint("tools", text, _Check(use.allowed))


class CallReader:
    """Tells text from calls in an answer that keeps the constraint, piece by piece."""

    def __init__(self) -> None:
        self.calls = 0
        """Calls that were begun."""
        self.in_calls = False
        """Whether all that follows is calls."""
        self._in_arguments = False
        self._buffer = ""

    def feed(self, text: str) -> tuple[str, list[CallPiece]]:
        """Return the text of the message and the pieces of calls that are certain now."""
        self._buffer += text
        if self.in_calls:
            return "", self._pieces()
        at = self._buffer.find(CALL_BEGIN)
        if at >= 0:
            self.in_calls = True
            plain, self._buffer = self._buffer[:at], self._buffer[at + len(CALL_BEGIN) :]
            return plain, self._pieces()
        return self._certain(CALL_BEGIN), []

    def end(self) -> str:
        """Return the text that was held back."""
        return "" if self.in_calls else self._buffer

    def _certain(self, tag: str) -> str:
        """Take what cannot be the begin of `tag`, whose first character stands nowhere else in it."""
        at = self._buffer.rfind(tag[0])
        certain = len(self._buffer) if at < 0 or not tag.startswith(self._buffer[at:]) else at
        taken, self._buffer = self._buffer[:certain], self._buffer[certain:]
        return taken

    def _pieces(self) -> list[CallPiece]:
        pieces: list[CallPiece] = []
        while (piece := self._piece()) is not None:
            if piece.id or piece.arguments:
                pieces.append(piece)
        return pieces

    def _piece(self) -> CallPiece | None:
        """Return the next piece in the buffer, None when more text is needed."""
        if not self._in_arguments:
            return self._head()
        end = self._buffer.find(_AFTER_ARGUMENTS)
        if end >= 0:
            arguments, self._buffer = self._buffer[:end], self._buffer[end + len(_AFTER_ARGUMENTS) :]
            self._in_arguments = False
            return CallPiece(self.calls - 1, arguments=arguments)
        arguments = self._certain(_AFTER_ARGUMENTS)
        return CallPiece(self.calls - 1, arguments=arguments) if arguments else None

    def _head(self) -> CallPiece | None:
        start = self._buffer.find(_NAME)
        end = self._buffer.find(_ARGUMENTS, start + len(_NAME)) if start >= 0 else -1
        if end < 0:
            return None
        name = self._buffer[start + len(_NAME) : end]
        self._buffer = self._buffer[end + len(_ARGUMENTS) :]
        self._in_arguments = True
        self.calls += 1
        return CallPiece(self.calls - 1, f"call_{secrets.token_hex(12)}", name)


class _Check:
    """Checks the calls of a finished answer."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._schemas = {tool.name: tool.parameters for tool in tools}

    def __call__(self, answer: str) -> None:
        for part in answer.split(CALL_BEGIN)[1:]:
            call = json.loads(part[: part.rindex(CALL_END)])
            check_value(self._schemas[call["name"]], json.dumps(call["arguments"]))


def _call(grammar: Grammar, tool: Tool) -> Node:
    try:
        arguments = compile_schema(tool.parameters, grammar)
    except UnsupportedSchemaError as fault:
        field = f"{tool.field}.parameters"
        raise invalid(field, f"{field}: {fault}") from None
    head = Text(f"\n{_NAME}{tool.name}{_ARGUMENTS}")
    return sequence(head, grammar.rule(arguments), Text(_AFTER_ARGUMENTS))


def _text_or(grammar: Grammar, calls: Node) -> Node:
    """Return any text in which the tag that begins a call does not stand, then perhaps the tag and `calls`.

    State i of a search for the tag is a rule: the last i characters are its first i. Only its first one is a <.
    """
    states = [grammar.reserve() for _ in CALL_BEGIN]
    for index, (state, expected) in enumerate(zip(states, CALL_BEGIN, strict=True)):
        following = calls if index + 1 == len(CALL_BEGIN) else states[index + 1]
        ways: list[Node] = [EMPTY, sequence(Text(expected), following)]
        if index:
            ways.append(sequence(Text(CALL_BEGIN[0]), states[1]))
        known = ranges((ord(character), ord(character)) for character in (expected, CALL_BEGIN[0]))
        ways.append(sequence(Chars(complement(known)), states[0]))
        grammar.rules[state.name] = choice(ways)
    return states[0]
