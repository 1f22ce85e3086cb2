"""The messages of a conversation, checked field by field. Nothing here knows templates or tokens."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import invalid

MOST_MESSAGES = 2048
_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool that an assistant made."""

    id: str
    name: str
    arguments: Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is system, user, assistant or tool."""

    role: str
    content: str
    name: str = ""
    calls: tuple[Call, ...] = field(default=())
    call_id: str = ""

    def as_mapping(self) -> dict[str, Any]:
        """Return the message as chat templates expect it."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name:
            fields["name"] = self.name
        if self.calls:
            fields["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in self.calls
            ]
        if self.call_id:
            fields["tool_call_id"] = self.call_id
        return fields


def read_messages(messages: Sequence[pb.Message], most_characters: int) -> list[Message]:
    """Return the messages of a request. Raises INVALID_ARGUMENT that names the field."""
    if not 1 <= len(messages) <= MOST_MESSAGES:
        raise invalid("messages", f"messages has {len(messages)} items; it takes 1 to {MOST_MESSAGES}")
    size = sum(len(message.content) for message in messages)
    if size > most_characters:
        raise invalid("messages", f"messages have {size} characters; the limit is {most_characters}")
    found: list[Message] = []
    known: dict[str, str] = {}
    for index, message in enumerate(messages):
        read = _message(f"messages[{index}]", message, known)
        known.update({call.id: call.name for call in read.calls})
        found.append(read)
    if found[-1].role == "assistant":
        raise invalid("messages", "messages end with one of the assistant; the last must be for it to answer")
    return found


def _message(path: str, message: pb.Message, known: Mapping[str, str]) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"{path}.role", f"{path}.role: {message.role} is not a role")
    if message.name and not _NAME.fullmatch(message.name):
        raise invalid(f"{path}.name", f"{path}.name takes 1 to 64 letters, digits, underscores, points and dashes")
    if message.tool_calls and role != "assistant":
        raise invalid(f"{path}.tool_calls", f"{path}.tool_calls: only an assistant calls tools")
    if bool(message.tool_call_id) != (role == "tool"):
        what = "is required in a message of a tool" if role == "tool" else "is for messages of tools only"
        raise invalid(f"{path}.tool_call_id", f"{path}.tool_call_id {what}")
    if role == "tool" and message.tool_call_id not in known:
        raise invalid(f"{path}.tool_call_id", f"{path}.tool_call_id names no call of a message before it")
    calls = tuple(_call(f"{path}.tool_calls[{i}]", call) for i, call in enumerate(message.tool_calls))
    name = message.name or known.get(message.tool_call_id, "")
    return Message(role, message.content, name, calls, message.tool_call_id)


def _call(path: str, call: pb.ToolCall) -> Call:
    if not call.id:
        raise invalid(f"{path}.id", f"{path}.id is required")
    if not TOOL_NAME.fullmatch(call.name):
        raise invalid(f"{path}.name", f"{path}.name takes 1 to 64 letters, digits, underscores and dashes")
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise invalid(f"{path}.arguments", f"{path}.arguments is not a JSON object")
    return Call(call.id, call.name, arguments)
