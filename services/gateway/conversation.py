"""The items of a Responses request as messages of a chat, and the way back for errors about them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flotilla.llm.v1 import llm_pb2 as pb

from services.gateway.schemas.parts import text_of
from services.gateway.schemas.response_items import AnyItem, FunctionCallItem, FunctionOutputItem

MESSAGES = re.compile(r"^messages\b(?:\[(\d+)\])?(?:\.tool_calls\[(\d+)\])?(?:\.(\w+))?")

_ROLES = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_SYSTEM,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
}
_OF_CALL = {"id": "call_id"}
_OF_OUTPUT = {"content": "output", "tool_call_id": "call_id"}


@dataclass(slots=True)
class _Turn:
    """A message, and what the caller calls it."""

    message: pb.Message
    name: str
    fields: Mapping[str, str] | None
    """Caller's names of its fields that are not the service's own; None where it is all one text."""
    calls: list[str] = field(default_factory=list)
    """Names of the items with its calls."""

    def public(self, call: str | None, name: str | None) -> str:
        item, fields = (self.name, self.fields) if call is None else (self.calls[int(call)], _OF_CALL)
        return item if fields is None or name is None else f"{item}.{fields.get(name, name)}"


class Conversation:
    """A conversation as the service takes it: calls of functions belong to the assistant's message before them."""

    def __init__(self, instructions: str | None, given: str | Sequence[AnyItem]) -> None:
        self._turns: list[_Turn] = []
        if instructions is not None:
            self._turns.append(_Turn(pb.Message(role=pb.ROLE_SYSTEM, content=instructions), "instructions", None))
        if isinstance(given, str):
            self._turns.append(_Turn(pb.Message(role=pb.ROLE_USER, content=given), "input", None))
            return
        for i, item in enumerate(given):
            self._add(f"input[{i}]", item)

    @property
    def messages(self) -> list[pb.Message]:
        """The messages."""
        return [turn.message for turn in self._turns]

    def public(self, found: re.Match[str]) -> str:
        """Return the caller's name of what `MESSAGES` has found in a name of the service."""
        turn, call, name = found.groups()
        return "input" if turn is None else self._turns[int(turn)].public(call, name)

    def _add(self, name: str, item: AnyItem) -> None:
        if isinstance(item, FunctionCallItem):
            if not (self._turns and self._turns[-1].message.role == pb.ROLE_ASSISTANT):
                self._turns.append(_Turn(pb.Message(role=pb.ROLE_ASSISTANT), name, {}))
            turn = self._turns[-1]
            turn.message.tool_calls.add(id=item.call_id, name=item.name, arguments=item.arguments)
            turn.calls.append(name)
        elif isinstance(item, FunctionOutputItem):
            message = pb.Message(role=pb.ROLE_TOOL, content=text_of(item.output), tool_call_id=item.call_id)
            self._turns.append(_Turn(message, name, _OF_OUTPUT))
        else:
            message = pb.Message(role=_ROLES[item.role], content=text_of(item.content))
            self._turns.append(_Turn(message, name, {}))
