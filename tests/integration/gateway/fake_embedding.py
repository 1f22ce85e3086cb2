# ruff: noqa: N802
"""An embedding service without a model: answers by rule, counts calls, fails when told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc
from grpc_health.v1 import health_pb2_grpc
from opentelemetry import trace
from prometheus_client import CollectorRegistry

from services.common.errors import Kind, ServiceError, invalid
from services.common.health import Health
from services.common.interceptors import Boundary
from services.common.server import grpc_server
from services.common.telemetry import Telemetry
from services.common.triton import service_pb2, service_pb2_grpc

MODEL = "fake-model"
TRITON_MODEL = "fake_model"
DIMENSIONS = 4
_BYTES = {
    pb.OUTPUT_TYPE_INT8: "i1",
    pb.OUTPUT_TYPE_UINT8: "u1",
    pb.OUTPUT_TYPE_BINARY: "i1",
    pb.OUTPUT_TYPE_UBINARY: "u1",
}


def telemetry(tracer: trace.Tracer | None = None) -> Telemetry:
    """Instruments that go nowhere but into a registry of their own."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider

    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry, disable_target_info=True, scope_info_enabled=False)
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    return Telemetry(meters.get_meter("test"), tracer or trace.NoOpTracer(), registry, (meters.shutdown,))


def vector(text: str) -> np.ndarray:
    """The vector of a text: its length, its first code point, and two numbers that float32 cannot hold exactly."""
    return np.array([len(text), ord(text[0]), 0.1, -1 / 3], "<f4")


@dataclass
class FakeEmbedding(embedding_pb2_grpc.EmbeddingServiceServicer, service_pb2_grpc.GRPCInferenceServiceServicer):
    """One replica."""

    address: str = ""
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    behave: Callable[[Any], Awaitable[None]] | None = None
    health: Health = field(default_factory=lambda: Health.of([], []))

    async def hang(self, _: Any) -> None:
        """A behaviour: wait until cancelled or released."""
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def fail(self, error: Exception, times: int = 1_000_000) -> None:
        """Raise `error` for the next `times` calls."""
        left = [times]

        async def behave(_: Any) -> None:
            if left[0] > 0:
                left[0] -= 1
                raise error

        self.behave = behave

    async def _note(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.remaining.append(context.time_remaining())
        if self.behave is not None:
            await self.behave(request)

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        await self._note(request, context)
        if request.model not in ("", MODEL):
            raise ServiceError(
                Kind.NOT_FOUND,
                f"model '{request.model}' does not exist; loaded: {MODEL}",
                field="model",
                code="model_not_found",
            )
        if not 1 <= len(request.inputs) <= 2048:
            raise invalid("inputs", f"inputs has {len(request.inputs)} items; it takes 1 to 2048")
        rows = [self._row(i, item, request.output_type) for i, item in enumerate(request.inputs)]
        return pb.EmbedResponse(
            model=MODEL,
            embeddings=rows,
            dimensions=DIMENSIONS,
            output_type=request.output_type,
            usage=pb.Usage(prompt_tokens=sum(row.tokens for row in rows)),
        )

    def _row(self, i: int, item: pb.Input, output_type: int) -> pb.Embedding:
        text = item.text if item.WhichOneof("value") == "text" else "".join(map(chr, item.tokens.ids))
        if not text:
            raise invalid(f"inputs[{i}]", f"inputs[{i}] is empty; give at least one character")
        if output_type == pb.OUTPUT_TYPE_FLOAT:
            return pb.Embedding(index=i, data=vector(text).tobytes(), tokens=len(text))
        return pb.Embedding(index=i, data=np.array([1, 2, 3, 100], _BYTES[output_type]).tobytes(), tokens=len(text))

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        await self._note(request, context)
        for i, passage in enumerate(request.passages):
            if not passage:
                raise invalid(f"passages[{i}]", f"passages[{i}] is empty; give at least one character")
        best = sorted(range(len(request.passages)), key=lambda i: -len(request.passages[i]))[: request.top_n or None]
        rankings = [pb.Ranking(index=i, score=len(request.passages[i])) for i in best]
        return pb.RankResponse(model=MODEL, rankings=rankings, usage=pb.Usage(prompt_tokens=7))

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        model = pb.Model(id=MODEL, dimensions=DIMENSIONS, triton_model=TRITON_MODEL, license="MIT", profile="cpu-fp32")
        return pb.ListModelsResponse(models=[model])

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        reply = service_pb2.RepositoryIndexResponse()
        reply.models.add(name=TRITON_MODEL, version="1", state="READY")
        return reply

    async def ModelReady(self, request: Any, context: Any) -> Any:
        await self._note(request, context)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        await self._note(request, context)
        context.set_trailing_metadata((("x-from-service", "trailer"), ("x-bin-bin", b"\x00\xff")))
        await context.send_initial_metadata((("x-initial", "yes"),))
        return service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await self._note(None, context)
        async for request in request_iterator:
            yield service_pb2.ModelStreamInferResponse(
                infer_response=service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
            )

    async def serve_nothing(self) -> None:
        """Say NOT_SERVING over health."""
        await self.health.down("triton", "test")

    async def serve_again(self) -> None:
        """Say SERVING over health."""
        await self.health.up("triton")

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["FakeEmbedding"]:
        """Serve on a port of loopback while the block runs."""
        server = grpc_server(64 * 1024 * 1024, [Boundary(telemetry(), lambda: False)])
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(self, server)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health.grpc, server)
        self.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
        await server.start()
        await self.health.open()
        try:
            yield self
        finally:
            await self.health.close()
            await server.stop(None)
