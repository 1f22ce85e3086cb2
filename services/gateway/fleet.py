"""The fleet: which services there are, what they are called in gRPC, and how each lists its models.

The one table to extend for a new service.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from flotilla.asr.v1 import asr_pb2
from flotilla.embedding.v1 import embedding_pb2
from flotilla.llm.v1 import llm_pb2
from flotilla.vision.v1 import vision_pb2
from riva.client.proto import riva_asr_pb2

from services.common.telemetry import Telemetry
from services.gateway.backends import Backend, Limits, Method
from services.gateway.changes import Changes
from services.gateway.settings import GatewaySettings

LIST_LANGUAGE_MODELS = Method(
    "/flotilla.llm.v1.LlmService/ListModels", llm_pb2.ListModelsRequest, llm_pb2.ListModelsResponse
)
_LIST_EMBEDDING_MODELS = Method(
    "/flotilla.embedding.v1.EmbeddingService/ListModels",
    embedding_pb2.ListModelsRequest,
    embedding_pb2.ListModelsResponse,
)
_LIST_SPEECH_MODELS = Method(
    "/flotilla.asr.v1.AsrService/ListModels", asr_pb2.ListModelsRequest, asr_pb2.ListModelsResponse
)
_LIST_VISION_MODELS = Method(
    "/flotilla.vision.v1.VisionService/ListModels", vision_pb2.ListModelsRequest, vision_pb2.ListModelsResponse
)


@dataclass(frozen=True, slots=True)
class Card:
    """What the gateway tells about one model."""

    id: str
    license: str
    profile: str
    triton_models: tuple[str, ...]
    """Its names in Triton, for KServe clients."""
    task: int = vision_pb2.TASK_UNSPECIFIED
    """What a vision model does, a Task of its contract."""
    context_length: int | None = None
    """Longest prompt and answer together that a language model takes, in tokens."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the fleet."""

    backend: Backend
    grpc_names: tuple[str, ...]
    """The gRPC services it serves: calls of them are forwarded to it."""
    list_models: Callable[[Backend], Awaitable[list[Card]]]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Every service behind the gateway."""

    llm: Service
    embedding: Service
    asr: Service
    vision: Service
    changes: Changes

    @classmethod
    def of(cls, settings: GatewaySettings, telemetry: Telemetry) -> "Fleet":
        """Return the fleet of the settings; nothing is connected yet."""
        changes = Changes()

        def service(name: str, list_models: Callable[[Backend], Awaitable[list[Card]]], *contracts: Any) -> Service:
            limits = Limits(
                timeout=settings.request_timeout_seconds,
                hold=getattr(settings, f"{name}_hold_seconds"),
                max_message_bytes=settings.max_message_bytes,
                retry_share=settings.retry_budget,
                resolve_every=settings.resolve_seconds,
            )
            places = [place.strip() for place in getattr(settings, f"{name}_addresses").split(",") if place.strip()]
            grpc_names = tuple(
                service.full_name for contract in contracts for service in contract.services_by_name.values()
            )
            return Service(Backend(name, places, limits, telemetry, changes), grpc_names, list_models)

        return cls(
            llm=service("llm", _language_models, llm_pb2.DESCRIPTOR),
            embedding=service("embedding", _embedding_models, embedding_pb2.DESCRIPTOR),
            asr=service("asr", _speech_models, asr_pb2.DESCRIPTOR, riva_asr_pb2.DESCRIPTOR),
            vision=service("vision", _vision_models, vision_pb2.DESCRIPTOR),
            changes=changes,
        )

    @property
    def services(self) -> tuple[Service, ...]:
        """Those the settings give an address, in the order they are listed everywhere."""
        known = (self.llm, self.embedding, self.asr, self.vision)
        return tuple(service for service in known if service.backend.deployed)

    async def start(self) -> None:
        """Begin to connect to every service and give each a moment to answer."""
        await asyncio.gather(*(service.backend.start() for service in self.services))

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(service.backend.close() for service in self.services))


async def _language_models(backend: Backend) -> list[Card]:
    reply = await backend.ask(LIST_LANGUAGE_MODELS, llm_pb2.ListModelsRequest())
    return [
        Card(
            id=model.id,
            license=model.license,
            profile=model.profile,
            triton_models=(model.triton_model,),
            context_length=model.context_length,
        )
        for model in reply.models
    ]


async def _embedding_models(backend: Backend) -> list[Card]:
    reply = await backend.ask(_LIST_EMBEDDING_MODELS, embedding_pb2.ListModelsRequest())
    return [
        Card(
            id=model.id,
            license=model.license,
            profile=model.profile,
            triton_models=tuple(name for name in (model.triton_model, model.triton_text_model) if name),
        )
        for model in reply.models
    ]


async def _speech_models(backend: Backend) -> list[Card]:
    reply = await backend.ask(_LIST_SPEECH_MODELS, asr_pb2.ListModelsRequest())
    return [
        Card(id=model.id, license=model.license, profile=model.profile, triton_models=(model.triton_model,))
        for model in reply.models
    ]


async def _vision_models(backend: Backend) -> list[Card]:
    reply = await backend.ask(_LIST_VISION_MODELS, vision_pb2.ListModelsRequest())
    return [
        Card(
            id=model.id,
            license=model.license,
            profile=model.profile,
            triton_models=tuple(model.triton_models),
            task=model.task,
        )
        for model in reply.models
    ]
