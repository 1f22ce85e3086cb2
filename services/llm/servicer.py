"""flotilla.llm.v1: proto in, proto out. No tensors, no text processing."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from flotilla.llm.v1 import llm_pb2 as pb
from flotilla.llm.v1 import llm_pb2_grpc

from services.common.errors import Kind, ServiceError, invalid
from services.llm.generation import Generator
from services.llm.messages import Messages
from services.llm.plans import Planner

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["LlmService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Served:
    """A model of the service."""

    description: pb.Model
    planner: Planner
    generator: Generator
    messages: Messages


class LlmServicer(llm_pb2_grpc.LlmServiceServicer):
    """Generates with the models it is given, by public model id."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self._models = models

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        """See the contract."""
        model = self._model(request.model)
        with model.generator.instruments.call("text_completion", model.generator.id) as record:
            plan = await model.planner.generate(request)
            async with aclosing(model.generator.pieces(plan, context, record)) as pieces:
                async for piece in pieces:
                    yield model.messages.generated(piece, plan.sampling.logprobs)
            yield pb.GenerateResponse(model=model.generator.id, usage=model.messages.usage(record))

    async def Chat(self, request: pb.ChatRequest, context: Context) -> AsyncIterator[pb.ChatResponse]:
        """See the contract."""
        model = self._model(request.model)
        with model.generator.instruments.call("chat", model.generator.id) as record:
            plan = await model.planner.chat(request)
            async with aclosing(model.generator.pieces(plan, context, record)) as pieces:
                async for piece in pieces:
                    yield model.messages.chatted(piece, plan.sampling.logprobs)
            yield pb.ChatResponse(model=model.generator.id, usage=model.messages.usage(record))

    async def CountTokens(self, request: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:
        """See the contract."""
        model = self._model(request.model)
        ids = await self._ids(model, request)
        return pb.CountTokensResponse(tokens=len(ids), context_length=model.description.context_length)

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """See the contract."""
        model = self._model(request.model)
        ids = await self._ids(model, request)
        return pb.TokenizeResponse(
            ids=ids,
            tokens=map(model.planner.tokenizer.token_bytes, ids),
            context_length=model.description.context_length,
        )

    async def Detokenize(self, request: pb.DetokenizeRequest, context: Context) -> pb.DetokenizeResponse:
        """See the contract."""
        tokenizer = self._model(request.model).planner.tokenizer
        tokenizer.check_ids("ids", request.ids)
        return pb.DetokenizeResponse(text=tokenizer.decode(request.ids))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """See the contract."""
        return pb.ListModelsResponse(models=[model.description for model in self._models.values()])

    def _model(self, name: str) -> Served:
        if not name and len(self._models) == 1:
            return next(iter(self._models.values()))
        if name not in self._models:
            loaded = ", ".join(self._models)
            message = f"model '{name}' does not exist; loaded: {loaded}"
            raise ServiceError(Kind.NOT_FOUND, message, field="model", code="model_not_found")
        return self._models[name]

    async def _ids(self, model: Served, request: pb.CountTokensRequest | pb.TokenizeRequest) -> list[int]:
        match request.WhichOneof("input"):
            case "text":
                return await model.planner.text("text", request.text)
            case "chat":
                return await model.planner.conversation(request.chat)
            case _:
                raise invalid("input", "input: one of text and chat must be set")
