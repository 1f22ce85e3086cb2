"""`POST /v1/responses`. Nothing is stored, so there is no response to get, delete or cancel afterwards."""

import re

from fastapi import APIRouter
from fastapi.routing import APIRoute
from flotilla.llm.v1 import llm_pb2 as pb
from starlette.responses import Response

from services.common.errors import Kind, ServiceError
from services.gateway.answers import gather, stream
from services.gateway.backends import Backend
from services.gateway.conversation import MESSAGES, Conversation
from services.gateway.errors import EVENT_STREAM, RESPONSES
from services.gateway.json_route import JsonRoute
from services.gateway.pieces import Call
from services.gateway.response_answer import ResponseEvents, WholeResponse
from services.gateway.routers.chat import CHAT, to_tool_choice
from services.gateway.sampling import Names, to_format, to_sampling
from services.gateway.schemas.common import TimeoutMs, seconds
from services.gateway.schemas.response_object import ResponseObject
from services.gateway.schemas.responses import FunctionTool, ResponsesRequest, TextFormat

_STORED = (
    ("GET", "/v1/responses/{response_id}"),
    ("DELETE", "/v1/responses/{response_id}"),
    ("POST", "/v1/responses/{response_id}/cancel"),
    ("GET", "/v1/responses/{response_id}/input_items"),
)


def create_router(llm: Backend, keep_alive: float) -> APIRouter:
    """Return the routes, served by the service behind `llm`. Silent streams say so every `keep_alive` seconds."""
    router = APIRouter(route_class=JsonRoute, tags=["responses"])

    @router.post(
        "/v1/responses",
        responses={
            200: {"model": ResponseObject, "content": EVENT_STREAM},
            **RESPONSES,
        },
    )
    async def respond(body: ResponsesRequest, timeout_ms: TimeoutMs = None) -> Response:
        """Return the next items of a conversation, whole or as a stream of events."""
        conversation = Conversation(body.instructions, body.input)
        steps = ((MESSAGES, conversation.public), (re.compile(r"^tool_choice\.mode"), "tool_choice"))
        names = Names(format="text.format", steps=steps)
        request = to_proto(body, conversation, names)
        calls = [Call(llm.stream(CHAT, request, seconds(timeout_ms)), names.public)]
        if body.stream:
            return await stream(calls, ResponseEvents(body), keep_alive, last=b"")
        return await gather(calls, WholeResponse(body))

    async def stored(response_id: str) -> Response:
        """Refuse: nothing is stored."""
        message = f"there is no response '{response_id[:64]}': nothing is stored"
        raise ServiceError(Kind.NOT_FOUND, message, field="response_id", code="response_not_found")

    for method, path in _STORED:
        router.add_api_route(
            path,
            stored,
            methods=[method],
            route_class_override=APIRoute,
            status_code=404,
            response_description="Nothing is stored",
            responses=RESPONSES,
        )
    return router


def to_proto(body: ResponsesRequest, conversation: Conversation, names: Names) -> pb.ChatRequest:
    """Return the request as the service takes it; `names` learns what the caller calls its fields."""
    sampling = to_sampling(body, names)
    names.sampling["max_tokens"] = "max_output_tokens"
    if body.max_output_tokens is not None:
        sampling.max_tokens = body.max_output_tokens
    sampling.logprobs, sampling.top_logprobs = body.with_logprobs, body.top_logprobs or 0
    return pb.ChatRequest(
        model=body.model,
        messages=conversation.messages,
        sampling=sampling,
        format=to_format(body, names, _own_format(body.text.format if body.text else None)),
        tools=[_tool(tool) for tool in body.tools or ()],
        tool_choice=None if body.tool_choice is None else to_tool_choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls,
        user=body.user or body.safety_identifier or "",
    )


def _own_format(wanted: TextFormat | None) -> tuple[str, pb.OutputFormat] | None:
    """Return the form of the answer and what a request calls it; None where it is free."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.schema_ is None:
        return "text.format", pb.OutputFormat(json_object=True)
    return "text.format.schema", pb.OutputFormat(json_schema=wanted.schema_)


def _tool(tool: FunctionTool) -> pb.Tool:
    return pb.Tool(name=tool.name, description=tool.description or "", parameters=tool.parameters or "")
