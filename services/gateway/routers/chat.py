"""`POST /v1/chat/completions`."""

from fastapi import APIRouter
from flotilla.llm.v1 import llm_pb2 as pb
from starlette.responses import Response

from services.gateway.answers import gather, stream
from services.gateway.backends import Backend, Method
from services.gateway.chat_answer import ChatEvents, WholeChat
from services.gateway.errors import EVENT_STREAM, RESPONSES
from services.gateway.json_route import JsonRoute
from services.gateway.pieces import Call
from services.gateway.sampling import Names, to_format, to_sampling
from services.gateway.schemas.chat import ChatRequest, ChatResponse, Message, ResponseFormat, Tool, ToolChoice
from services.gateway.schemas.common import TimeoutMs, seconds

CHAT = Method("/flotilla.llm.v1.LlmService/Chat", pb.ChatRequest, pb.ChatResponse)

_ROLES = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_SYSTEM,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
}


def create_router(llm: Backend, keep_alive: float) -> APIRouter:
    """Return the routes, served by the service behind `llm`. Silent streams say so every `keep_alive` seconds."""
    router = APIRouter(route_class=JsonRoute, tags=["chat"])

    @router.post("/v1/chat/completions", responses={200: {"model": ChatResponse, "content": EVENT_STREAM}, **RESPONSES})
    async def chat(body: ChatRequest, timeout_ms: TimeoutMs = None) -> Response:
        """Return the next message of a conversation, whole or as a stream of events."""
        names = Names()
        request = to_proto(body, names)
        calls = [Call(llm.stream(CHAT, request, seconds(timeout_ms)), names.public)]
        if body.stream:
            return await stream(calls, ChatEvents(body.model, body.include_usage), keep_alive)
        return await gather(calls, WholeChat(body.model, body.n or 1, bool(body.logprobs)))

    return router


def to_proto(body: ChatRequest, names: Names) -> pb.ChatRequest:
    """Return the request as the service takes it; `names` learns what the caller calls its fields."""
    sampling = to_sampling(body, names)
    if body.max_completion_tokens is not None:
        names.sampling["max_tokens"] = "max_completion_tokens"
        sampling.max_tokens = body.max_completion_tokens
    sampling.logprobs, sampling.top_logprobs = bool(body.logprobs), body.top_logprobs or 0
    return pb.ChatRequest(
        model=body.model,
        messages=[to_message(message) for message in body.messages],
        sampling=sampling,
        format=to_format(body, names, own_format(body.response_format)),
        tools=[to_tool(tool) for tool in body.tools or ()],
        tool_choice=None if body.tool_choice is None else to_tool_choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls,
        user=body.user or body.safety_identifier or "",
    )


def own_format(wanted: ResponseFormat | None) -> tuple[str, pb.OutputFormat] | None:
    """Return the form of the answer and what a request calls it; None where it is free."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is None:
        return "response_format", pb.OutputFormat(json_object=True)
    return "response_format.json_schema.schema", pb.OutputFormat(json_schema=wanted.json_schema.schema_)


def to_tool_choice(choice: ToolChoice) -> pb.ToolChoice:
    """Return whether and what the model calls as the service takes it."""
    return pb.ToolChoice(mode=pb.ToolMode.Value(f"TOOL_MODE_{choice.mode.upper()}"), name=choice.name)


def to_message(message: Message) -> pb.Message:
    """Return a message as the service takes it."""
    return pb.Message(
        role=_ROLES[message.role],
        content=message.text,
        name=message.name or "",
        tool_calls=[
            pb.ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ],
        tool_call_id=message.tool_call_id or "",
    )


def to_tool(tool: Tool) -> pb.Tool:
    """Return a tool as the service takes it."""
    function = tool.function
    return pb.Tool(name=function.name, description=function.description or "", parameters=function.parameters or "")
