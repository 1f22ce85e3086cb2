"""The tools of a request and whether they are called, checked field by field."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import invalid
from services.llm.conversation import TOOL_NAME
from services.llm.json_schema import Schema, UnsupportedSchemaError, parse

MOST_TOOLS = 128
_NO_ARGUMENTS = '{"type": "object", "properties": {}, "additionalProperties": false}'


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call."""

    field: str
    """Its place in the request, for messages."""
    name: str
    description: str
    parameters: Schema

    def as_mapping(self) -> dict[str, Any]:
        """Return the tool as chat templates expect it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools that may be called in an answer."""

    shown: tuple[Tool, ...] = ()
    """Those the model is told of."""
    allowed: tuple[Tool, ...] = ()
    """Those it may call."""
    forced: bool = False
    """Whether it must call one."""
    parallel: bool = True
    """Whether it may call several."""


def read_tools(request: pb.ChatRequest) -> ToolUse:
    """Return the tools of a request. Raises INVALID_ARGUMENT that names the field."""
    if len(request.tools) > MOST_TOOLS:
        raise invalid("tools", f"tools has {len(request.tools)} items; it takes {MOST_TOOLS} at most")
    tools = tuple(_tool(f"tools[{i}]", tool, request.tools[:i]) for i, tool in enumerate(request.tools))
    mode, name = request.tool_choice.mode, request.tool_choice.name
    if mode not in pb.ToolMode.values():
        raise invalid("tool_choice.mode", f"tool_choice.mode: {mode} is not a value of ToolMode")
    if name and mode != pb.TOOL_MODE_NAMED:
        raise invalid("tool_choice.name", "tool_choice.name is for TOOL_MODE_NAMED only")
    if mode in (pb.TOOL_MODE_REQUIRED, pb.TOOL_MODE_NAMED) and not tools:
        raise invalid("tool_choice", "tool_choice asks for a call, and there are no tools")
    if mode == pb.TOOL_MODE_NONE or not tools:
        return ToolUse()
    parallel = request.parallel_tool_calls if request.HasField("parallel_tool_calls") else True
    if mode == pb.TOOL_MODE_NAMED:
        named = tuple(tool for tool in tools if tool.name == name)
        if not named:
            raise invalid("tool_choice.name", f"tool_choice.name: '{name[:64]}' is not among the tools")
        return ToolUse(tools, named, forced=True, parallel=False)
    return ToolUse(tools, tools, mode == pb.TOOL_MODE_REQUIRED, parallel)


def _tool(field: str, tool: pb.Tool, before: Sequence[pb.Tool]) -> Tool:
    if not TOOL_NAME.fullmatch(tool.name):
        raise invalid(f"{field}.name", f"{field}.name takes 1 to 64 letters, digits, underscores and dashes")
    if any(tool.name == other.name for other in before):
        raise invalid(f"{field}.name", f"{field}.name: '{tool.name}' is there twice")
    try:
        parameters = parse(tool.parameters or _NO_ARGUMENTS)
    except UnsupportedSchemaError as fault:
        raise invalid(f"{field}.parameters", f"{field}.parameters: {fault}") from None
    if isinstance(parameters, bool) or parameters.get("type", "object") != "object":
        raise invalid(f"{field}.parameters", f"{field}.parameters: arguments are an object")
    return Tool(field, tool.name, tool.description, {"type": "object", **parameters})
