"""`POST /v1/tokenize` and `/v1/detokenize`, also under vLLM's names without `/v1`, and `GET /tokenizer_info`."""

import re
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.routing import APIRoute
from flotilla.llm.v1 import llm_pb2 as pb
from starlette.responses import Response

from services.common.errors import Kind, ServiceError
from services.gateway.access.caller import covered
from services.gateway.backends import ASK_SECONDS, Backend, Method
from services.gateway.errors import RESPONSES, rename
from services.gateway.fleet import LIST_LANGUAGE_MODELS
from services.gateway.json_route import JsonRoute
from services.gateway.logprobs import token_text
from services.gateway.routers.chat import to_message, to_tool
from services.gateway.sampling import Names
from services.gateway.schemas.common import TimeoutMs, seconds
from services.gateway.schemas.tokens import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
    TokenizerInfo,
)

TOKENIZE = Method("/flotilla.llm.v1.LlmService/Tokenize", pb.TokenizeRequest, pb.TokenizeResponse)
DETOKENIZE = Method("/flotilla.llm.v1.LlmService/Detokenize", pb.DetokenizeRequest, pb.DetokenizeResponse)


def create_router(llm: Backend) -> APIRouter:
    """Return the routes, served by the service behind `llm`."""
    router = APIRouter(route_class=JsonRoute, tags=["tokens"])

    @router.post("/v1/tokenize", responses={200: {"model": TokenizeResponse}, **RESPONSES})
    @router.post("/tokenize", responses={200: {"model": TokenizeResponse}, **RESPONSES})
    async def tokenize(body: TokenizeRequest, timeout_ms: TimeoutMs = None) -> Response:
        """Return the tokens of a text or conversation, and how many there are."""
        reply = await _call(llm, TOKENIZE, to_proto(body), timeout_ms)
        return _json(
            {
                "count": len(reply.ids),
                "max_model_len": reply.context_length,
                "tokens": list(reply.ids),
                "token_strs": [token_text(token) for token in reply.tokens] if body.return_token_strs else None,
            }
        )

    @router.post("/v1/detokenize", responses={200: {"model": DetokenizeResponse}, **RESPONSES})
    @router.post("/detokenize", responses={200: {"model": DetokenizeResponse}, **RESPONSES})
    async def detokenize(body: DetokenizeRequest, timeout_ms: TimeoutMs = None) -> Response:
        """Return the text of tokens."""
        request = pb.DetokenizeRequest(model=body.model or "", ids=body.tokens)
        reply = await _call(llm, DETOKENIZE, request, timeout_ms)
        return _json({"prompt": reply.text})

    async def tokenizer_info(model: str = "") -> TokenizerInfo:
        """Describe the tokenizer of a model. Default: the first language model."""
        reply = await llm.call(LIST_LANGUAGE_MODELS, pb.ListModelsRequest(), ASK_SECONDS)
        for found in reply.models:
            if model in ("", found.id) and await covered(found.id):
                return TokenizerInfo(
                    model_max_length=found.context_length,
                    vocab_size=found.vocabulary_size,
                    chat_template=found.chat_template,
                )
        loaded = ", ".join([found.id for found in reply.models if await covered(found.id)]) or "none"
        message = f"model '{model}' is not a loaded language model; loaded: {loaded}"
        raise ServiceError(Kind.NOT_FOUND, message, field="model", code="model_not_found")

    for path in ("/v1/tokenizer_info", "/tokenizer_info"):
        router.add_api_route(path, tokenizer_info, methods=["GET"], route_class_override=APIRoute, responses=RESPONSES)
    return router


def to_proto(body: TokenizeRequest) -> pb.TokenizeRequest:
    """Return the request as the service takes it."""
    if body.messages is None:
        return pb.TokenizeRequest(model=body.model or "", text=body.prompt or "")
    chat = pb.ChatRequest(
        model=body.model or "",
        messages=[to_message(message) for message in body.messages],
        tools=[to_tool(tool) for tool in body.tools or ()],
    )
    return pb.TokenizeRequest(model=body.model or "", chat=chat)


async def _call(llm: Backend, method: Method[Any, Any], request: Any, timeout_ms: int | None) -> Any:
    try:
        return await llm.call(method, request, seconds(timeout_ms))
    except ServiceError as error:
        rename(error, public_name)
        raise


def public_name(name: str) -> str:
    """Return the caller's name of a field of the service's requests."""
    return Names().public(re.sub(r"^ids\b", "tokens", re.sub(r"^text\b", "prompt", name.removeprefix("chat."))))


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
