# ruff: noqa: N802
"""A vision service without a model: answers by rule, keeps what it was sent, fails when told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from flotilla.vision.v1 import vision_pb2 as pb
from flotilla.vision.v1 import vision_pb2_grpc
from grpc_health.v1 import health_pb2_grpc

from services.common.errors import Kind, ServiceError, invalid
from services.common.health import Health
from services.common.interceptors import Boundary
from services.common.server import grpc_server
from services.common.triton import service_pb2, service_pb2_grpc
from tests.integration.gateway.fake_embedding import telemetry

CLASSIFIER, DETECTOR, READER, FACE_FINDER = "fake-classifier", "fake-detector", "fake-reader", "fake-faces"
MODELS = {
    CLASSIFIER: pb.TASK_CLASSIFY,
    DETECTOR: pb.TASK_DETECT,
    READER: pb.TASK_READ_TEXT,
    FACE_FINDER: pb.TASK_DETECT_FACES,
}
WIDTH, HEIGHT = 640, 480
JPEG = b"\xff\xd8\xff\xe0 a picture with boxes \xff\xd9"
BOX = pb.Box(x_min=0.1, y_min=0.2, x_max=0.3, y_max=0.4)
CORNERS = [pb.Point(x=0.1, y=0.2), pb.Point(x=0.9, y=0.2), pb.Point(x=0.9, y=0.3), pb.Point(x=0.1, y=0.3)]
LANDMARKS = [pb.Point(x=i / 10, y=0.5) for i in range(5)]


@dataclass
class FakeVision(vision_pb2_grpc.VisionServiceServicer, service_pb2_grpc.GRPCInferenceServiceServicer):
    """One replica."""

    address: str = ""
    requests: list[Any] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    error: Exception | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)
    health: Health = field(default_factory=lambda: Health.of([], []))

    def _note(self, request: Any, context: Any, model: str) -> None:
        self.requests.append(request)
        self.remaining.append(context.time_remaining())
        if self.error is not None:
            raise self.error
        if request.model not in ("", model):
            message = f"model '{request.model}' is not loaded; loaded: {model}"
            raise ServiceError(Kind.NOT_FOUND, message, field="model", code="model_not_found")
        for i, image in enumerate(request.images):
            if image.data == b"broken":
                raise invalid(f"images[{i}].data", f"images[{i}].data is no image that can be read")

    def _info(self, request: Any, i: int) -> pb.ImageInfo:
        return pb.ImageInfo(index=i, width=WIDTH, height=HEIGHT, annotated=JPEG if request.annotate else b"")

    def _usage(self, request: Any) -> pb.Usage:
        size = sum(len(image.data) for image in request.images)
        return pb.Usage(images=len(request.images), pixels=WIDTH * HEIGHT * len(request.images), bytes=size)

    def _classes(self, request: pb.ClassifyRequest) -> list[pb.ClassifyResult]:
        found = [pb.Classification(label="cat", score=0.9), pb.Classification(label="dog", score=0.05, class_index=1)]
        return [
            pb.ClassifyResult(image=self._info(request, i), classifications=found) for i in range(len(request.images))
        ]

    async def Classify(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        self._note(request, context, CLASSIFIER)
        return pb.ClassifyResponse(model=CLASSIFIER, results=self._classes(request), usage=self._usage(request))

    async def Detect(self, request: pb.DetectRequest, context: Any) -> pb.DetectResponse:
        self._note(request, context, DETECTOR)
        found = [
            pb.Detection(label=label, confidence=confidence, box=BOX)
            for label, confidence in (("cat", 0.9), ("cup", 0.8), ("cat", 0.7))
        ]
        results = [pb.DetectResult(image=self._info(request, i), detections=found) for i in range(len(request.images))]
        return pb.DetectResponse(model=DETECTOR, results=results, usage=self._usage(request))

    async def ReadText(self, request: pb.ReadTextRequest, context: Any) -> pb.ReadTextResponse:
        self._note(request, context, READER)
        lines = [pb.TextLine(text="naïve 一", confidence=0.95, corners=CORNERS)]
        results = [pb.ReadTextResult(image=self._info(request, i), lines=lines) for i in range(len(request.images))]
        return pb.ReadTextResponse(model=READER, results=results, usage=self._usage(request))

    async def DetectFaces(self, request: pb.DetectFacesRequest, context: Any) -> pb.DetectFacesResponse:
        self._note(request, context, FACE_FINDER)
        faces = [pb.Face(confidence=0.75, box=BOX, landmarks=LANDMARKS)]
        results = [pb.DetectFacesResult(image=self._info(request, i), faces=faces) for i in range(len(request.images))]
        return pb.DetectFacesResponse(model=FACE_FINDER, results=results, usage=self._usage(request))

    async def InferStream(self, request: pb.InferStreamRequest, context: Any) -> AsyncIterator[pb.InferStreamResponse]:
        """Answer the first image, and the others once released."""
        for i, result in enumerate(self._classes(request.classify)):
            if i == 1:
                await self.released.wait()
            yield pb.InferStreamResponse(model=CLASSIFIER, classify=result)
        yield pb.InferStreamResponse(model=CLASSIFIER, usage=self._usage(request.classify))

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        models = [
            pb.Model(id=name, task=task, triton_models=[name.replace("-", "_")], license="MIT", profile="cpu-fp32")
            for name, task in MODELS.items()
        ]
        return pb.ListModelsResponse(models=models)

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        reply = service_pb2.RepositoryIndexResponse()
        reply.models.add(name=CLASSIFIER.replace("-", "_"), version="1", state="READY")
        return reply

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata((("x-vision", "yes"),))
        async for request in request_iterator:
            answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
            yield service_pb2.ModelStreamInferResponse(infer_response=answer)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeVision"]:
        """Serve on a port of loopback while the block runs."""
        server = grpc_server(64 * 1024 * 1024, [Boundary(telemetry(), lambda: False)])
        vision_pb2_grpc.add_VisionServiceServicer_to_server(self, server)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health.grpc, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        await self.health.open()
        try:
            yield self
        finally:
            await self.health.close()
            await server.stop(None)
