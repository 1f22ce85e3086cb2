"""`POST /v1/completions`."""

from fastapi import APIRouter
from flotilla.llm.v1 import llm_pb2 as pb
from starlette.responses import Response

from services.gateway.answers import gather, stream
from services.gateway.backends import Backend, Method
from services.gateway.completion_answer import CompletionEvents, WholeCompletion
from services.gateway.errors import EVENT_STREAM, RESPONSES
from services.gateway.json_route import JsonRoute
from services.gateway.pieces import Call
from services.gateway.sampling import Names, to_format, to_sampling
from services.gateway.schemas.common import TimeoutMs, seconds
from services.gateway.schemas.completions import CompletionsRequest, CompletionsResponse, Prompt

GENERATE = Method("/flotilla.llm.v1.LlmService/Generate", pb.GenerateRequest, pb.GenerateResponse)


def create_router(llm: Backend, keep_alive: float) -> APIRouter:
    """Return the routes, served by the service behind `llm`. Silent streams say so every `keep_alive` seconds."""
    router = APIRouter(route_class=JsonRoute, tags=["completions"])

    @router.post(
        "/v1/completions",
        responses={200: {"model": CompletionsResponse, "content": EVENT_STREAM}, **RESPONSES},
    )
    async def complete(body: CompletionsRequest, timeout_ms: TimeoutMs = None) -> Response:
        """Continue one prompt or several, whole or as a stream of events."""
        names = Names()
        shared = to_proto(body, names)
        answers = body.n or 1
        calls = [
            Call(llm.stream(GENERATE, _about(prompt, shared), seconds(timeout_ms)), names.with_prompt(prompt.name))
            for prompt in body.prompt
        ]
        if body.stream:
            return await stream(calls, CompletionEvents(body.model, answers, body.include_usage), keep_alive)
        with_logprobs = body.logprobs is not None
        return await gather(calls, WholeCompletion(body.model, len(calls), answers, with_logprobs))

    return router


def to_proto(body: CompletionsRequest, names: Names) -> pb.GenerateRequest:
    """Return the request as the service takes it, without a prompt; `names` learns what the caller calls its fields."""
    sampling = to_sampling(body, names)
    names.sampling["top_logprobs"] = "logprobs"
    sampling.logprobs, sampling.top_logprobs = body.logprobs is not None, body.logprobs or 0
    return pb.GenerateRequest(
        model=body.model,
        sampling=sampling,
        format=to_format(body, names),
        echo=bool(body.echo),
        user=body.user or "",
    )


def _about(prompt: Prompt, shared: pb.GenerateRequest) -> pb.GenerateRequest:
    """Return the call for one prompt."""
    request = pb.GenerateRequest()
    request.CopyFrom(shared)
    if isinstance(prompt.value, str):
        request.text = prompt.value
    else:
        request.tokens.ids.extend(prompt.value)
        request.tokens.SetInParent()
    return request
