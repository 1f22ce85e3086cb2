from typing import Any

import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.gateway.conversation import MESSAGES, Conversation
from services.gateway.schemas.responses import ResponsesRequest

SAID = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "I look."}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "blue"}


def conversation(given: Any, instructions: str | None = None) -> Conversation:
    body = ResponsesRequest.model_validate({"model": "m", "input": given, "instructions": instructions})
    return Conversation(body.instructions, body.input)


def roles(given: Any) -> list[tuple[str, int]]:
    return [(pb.Role.Name(m.role), len(m.tool_calls)) for m in conversation(given).messages]


def test_a_text_is_said_by_the_user() -> None:
    assert conversation("hi", "be brief").messages == [
        pb.Message(role=pb.ROLE_SYSTEM, content="be brief"),
        pb.Message(role=pb.ROLE_USER, content="hi"),
    ]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([SAID, ANSWER, CALL, CALL], [("ROLE_USER", 0), ("ROLE_ASSISTANT", 2)]),
        ([SAID, CALL], [("ROLE_USER", 0), ("ROLE_ASSISTANT", 1)]),
        ([CALL, RESULT, CALL], [("ROLE_ASSISTANT", 1), ("ROLE_TOOL", 0), ("ROLE_ASSISTANT", 1)]),
        ([CALL, ANSWER], [("ROLE_ASSISTANT", 1), ("ROLE_ASSISTANT", 0)]),
    ],
)
def test_calls_belong_to_the_assistants_message_before_them(items: list[Any], expected: list[tuple[str, int]]) -> None:
    assert roles(items) == expected


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("messages", "input"),
        ("messages[0]", "instructions"),
        ("messages[0].content", "instructions"),
        ("messages[1].content", "input[0].content"),
        ("messages[1].tool_calls[0].id", "input[1].call_id"),
        ("messages[1].tool_calls[0].name", "input[1].name"),
        ("messages[1].tool_calls[1]", "input[2]"),
        ("messages[2].content", "input[3].output"),
        ("messages[2].tool_call_id", "input[3].call_id"),
    ],
)
def test_names_lead_back_to_the_items(name: str, public: str) -> None:
    found = conversation([ANSWER, CALL, CALL, RESULT], "be brief")
    assert MESSAGES.sub(found.public, name) == public
