"""Tools in the text of a conversation, for models whose chat template knows none, and the form of a call in an answer.

The form is Hermes's: <tool_call>, a JSON object with name and arguments, </tool_call>; results are <tool_response>.
https://github.com/NousResearch/Hermes-Function-Calling
"""

import dataclasses
import json
from collections.abc import Sequence

from services.llm.conversation import Message
from services.llm.tools import Tool

CALL_BEGIN, CALL_END = "<tool_call>", "</tool_call>"
_INTRODUCTION = """\
You can call functions. These are their signatures, as JSON:
<tools>
{tools}
</tools>
To call one, answer with its name and arguments as JSON inside tags, one pair of tags for each call:
<tool_call>
{{"name": "<name>", "arguments": {{...}}}}
</tool_call>"""


def described(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """Return the messages with the tools in a system message: at the end of the first, or in one of their own."""
    if not tools:
        return list(messages)
    listed = "\n".join(json.dumps(tool.as_mapping()["function"], ensure_ascii=False) for tool in tools)
    introduction = _INTRODUCTION.format(tools=listed)
    first, rest = messages[0], list(messages[1:])
    if first.role == "system":
        return [dataclasses.replace(first, content=f"{first.content}\n\n{introduction}"), *rest]
    return [Message("system", introduction), first, *rest]


def without_tool_roles(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with calls and results of tools as text."""
    return [_as_text(message) for message in messages]


def _as_text(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.calls:
        return message
    calls = [
        "{}\n{}\n{}".format(
            CALL_BEGIN, json.dumps({"name": c.name, "arguments": c.arguments}, ensure_ascii=False), CALL_END
        )
        for c in message.calls
    ]
    return Message(message.role, "\n".join(filter(None, (message.content, *calls))))
