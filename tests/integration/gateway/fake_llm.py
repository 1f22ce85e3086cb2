# ruff: noqa: N802
"""An llm service without a model: says what it is told to say, counts what runs, fails when told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from flotilla.llm.v1 import llm_pb2 as pb
from flotilla.llm.v1 import llm_pb2_grpc
from grpc_health.v1 import health_pb2_grpc

from services.common.errors import Kind, ServiceError
from services.common.health import Health
from services.common.interceptors import Boundary
from services.common.server import grpc_server
from tests.integration.gateway.fake_embedding import telemetry

MODEL = "fake-chat"
CONTEXT = 512
USAGE = pb.Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2)
STOP, LENGTH, TOOL_CALLS = pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH, pb.FINISH_REASON_TOOL_CALLS


def likely(text: str | bytes, value: float | None = -0.5, *others: tuple[str, float]) -> pb.PositionLogprobs:
    """The log-probability of a token, and of others in its place after it."""
    raw = text.encode() if isinstance(text, str) else text
    token = pb.TokenLogprob(id=len(raw), text=raw, logprob=value)
    top = [pb.TokenLogprob(id=1, text=other.encode(), logprob=number) for other, number in others]
    return pb.PositionLogprobs(token=token, top=top)


def hello(response: type[Any], request: Any) -> list[Any]:
    """Every answer says "Hello wörld", in two pieces; the answers take turns."""
    pieces = [
        response(model=MODEL, index=index, text=text)
        for text in ("Hello", " wörld")
        for index in range(request.sampling.n or 1)
    ]
    pieces += [response(model=MODEL, index=i, finish_reason=STOP) for i in range(request.sampling.n or 1)]
    return [*pieces, response(model=MODEL, usage=USAGE)]


@dataclass
class FakeLlm(llm_pb2_grpc.LlmServiceServicer):
    """One replica."""

    address: str = ""
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    running_calls: int = 0
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    script: Callable[[type[Any], Any], list[Any]] = hello
    """The answer to a request: pieces to send, errors to raise, and coroutine functions to wait for."""
    health: Health = field(default_factory=lambda: Health.of([], []))

    async def hang(self) -> None:
        """A step of a script: wait until cancelled or released."""
        self.entered.set()
        await self.release.wait()

    def says(self, *steps: Any) -> None:
        """Answer every request with these steps."""
        self.script = lambda *_: list(steps)

    def fails(self, error: Exception) -> None:
        """Answer every request with an error."""
        self.says(error)

    @property
    def request(self) -> Any:
        """The last request."""
        return self.requests[-1]

    async def _answer(self, response: type[Any], request: Any, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.running_calls += 1
        self.idle.clear()
        try:
            _check(request)
            for step in self.script(response, request):
                if isinstance(step, Exception):
                    raise step
                if callable(step):
                    await _wait(step)
                else:
                    yield step
        finally:
            self.running_calls -= 1
            if not self.running_calls:
                self.idle.set()

    async def Chat(self, request: pb.ChatRequest, context: Any) -> AsyncIterator[pb.ChatResponse]:
        async for piece in self._answer(pb.ChatResponse, request, context):
            yield piece

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        async for piece in self._answer(pb.GenerateResponse, request, context):
            yield piece

    async def Tokenize(self, request: pb.TokenizeRequest, context: Any) -> pb.TokenizeResponse:
        self.requests.append(request)
        _check(request)
        text = request.text or "".join(message.content for message in request.chat.messages)
        raw = [bytes([byte]) for byte in text.encode()]
        return pb.TokenizeResponse(ids=text.encode(), tokens=raw, context_length=CONTEXT)

    async def Detokenize(self, request: pb.DetokenizeRequest, context: Any) -> pb.DetokenizeResponse:
        self.requests.append(request)
        for i, token in enumerate(request.ids):
            if token > 255:
                raise ServiceError(Kind.INVALID_ARGUMENT, f"ids[{i}] is not in the vocabulary", field=f"ids[{i}]")
        return pb.DetokenizeResponse(text=bytes(request.ids).decode(errors="replace"))

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        model = pb.Model(
            id=MODEL,
            context_length=CONTEXT,
            vocabulary_size=256,
            triton_model="fake_chat",
            license="MIT",
            profile="cpu-int8",
            chat_template="{{ messages }}",
        )
        return pb.ListModelsResponse(models=[model])

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeLlm"]:
        """Serve on a port of loopback while the block runs."""
        server = grpc_server(64 * 1024 * 1024, [Boundary(telemetry(), lambda: False)])
        llm_pb2_grpc.add_LlmServiceServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health.grpc, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        await self.health.open()
        try:
            yield self
        finally:
            await self.health.close()
            await server.stop(None)


async def _wait(step: Callable[[], Awaitable[None]]) -> None:
    await step()


def _check(request: Any) -> None:
    if request.model not in ("", MODEL):
        message = f"model '{request.model}' is not loaded; loaded: {MODEL}"
        raise ServiceError(Kind.NOT_FOUND, message, field="model", code="model_not_found")
