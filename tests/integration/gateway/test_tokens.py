"""The tokens routes, under both names."""

from typing import Any

import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.common.errors import Kind, ServiceError
from tests.bad_requests import assert_refused
from tests.integration.gateway.fake_llm import CONTEXT, MODEL, FakeLlm
from tests.integration.gateway.gateway import Gateway


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_a_text_there_and_back(llm_gateway: Gateway, prefix: str) -> None:
    there = await llm_gateway.http.post(f"{prefix}/tokenize", json={"prompt": "hé", "add_special_tokens": False})
    tokens = [104, 195, 169]
    assert there.json() == {"count": 3, "max_model_len": CONTEXT, "tokens": tokens, "token_strs": None}
    back = await llm_gateway.http.post(f"{prefix}/detokenize", json={"model": MODEL, "tokens": tokens})
    assert back.json() == {"prompt": "hé"}


async def test_a_conversation(llm_gateway: Gateway, llm: FakeLlm) -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hé"}], "tools": [tool], "return_token_strs": True}
    answer = (await llm_gateway.http.post("/v1/tokenize", json=body)).json()
    assert answer["token_strs"] == ["h", "\\xc3", "\\xa9"]
    assert llm.request == pb.TokenizeRequest(
        model=MODEL,
        chat=pb.ChatRequest(
            model=MODEL, messages=[pb.Message(role=pb.ROLE_USER, content="hé")], tools=[pb.Tool(name="look")]
        ),
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("tokenize", {}, 400, "prompt"),
        ("tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, 400, "prompt"),
        ("tokenize", {"prompt": "a", "tools": []}, 400, "tools"),
        ("tokenize", {"prompt": 5}, 400, "prompt"),
        ("tokenize", {"prompt": "a", "add_special_tokens": True}, 400, "add_special_tokens"),
        ("tokenize", {"prompt": "a", "add_generation_prompt": False}, 400, "add_generation_prompt"),
        ("tokenize", {"prompt": "a", "model": "nope"}, 404, "model"),
        ("detokenize", {"tokens": "a"}, 400, "tokens"),
        ("detokenize", {"tokens": [1, -1]}, 400, "tokens[1]"),
        ("detokenize", {"tokens": [1, 300]}, 400, "tokens[1]"),
        ("detokenize", {}, 400, "tokens"),
    ],
)
async def test_bad_values_are_refused_by_name(
    llm_gateway: Gateway, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    assert_refused(await llm_gateway.http.post(f"/v1/{path}", json=body), status, param)


async def test_what_harnesses_ask_of_the_tokenizer(llm_gateway: Gateway) -> None:
    info = (await llm_gateway.http.get("/tokenizer_info")).json()
    assert info["model_max_length"] == CONTEXT
    assert info["chat_template"] == "{{ messages }}"
    assert {"eos_token", "bos_token"} <= info.keys()
    assert (await llm_gateway.http.get("/v1/tokenizer_info", params={"model": MODEL})).json() == info
    assert_refused(await llm_gateway.http.get("/tokenizer_info", params={"model": "nope"}), 404, "model")


def test_errors_about_a_conversation_lose_their_prefix() -> None:
    from services.gateway.errors import rename
    from services.gateway.routers.tokens import public_name

    error = ServiceError(Kind.INVALID_ARGUMENT, "chat.messages[0] is odd", field="chat.messages[0]")
    rename(error, public_name)
    assert (error.field, error.message) == ("messages[0]", "messages[0] is odd")
