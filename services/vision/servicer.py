"""flotilla.vision.v1: proto in, proto out. No pixels."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from flotilla.vision.v1 import vision_pb2 as pb
from flotilla.vision.v1 import vision_pb2_grpc

from services.common.admission import Admission
from services.common.errors import Kind, ServiceError
from services.common.request_context import priority_of
from services.vision import messages
from services.vision.calls import Call, Calls
from services.vision.pipeline import Answer, Pipeline, Source, as_finished
from services.vision.settings import VisionSettings
from services.vision.tasks import Task
from services.vision.turnstile import Turn

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["VisionService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


class VisionServicer(vision_pb2_grpc.VisionServiceServicer):
    """Answers with the models it is given."""

    def __init__(
        self, tasks: Mapping[str, Task[Any]], pipeline: Pipeline, admission: Admission, settings: VisionSettings
    ) -> None:
        self._tasks, self._calls = tasks, Calls(tasks)
        self._pipeline, self._admission, self._settings = pipeline, admission, settings

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """See the contract."""
        call = self._calls.classify(request, self._settings.max_images)
        results, usage = await self._answer(call, context)
        return pb.ClassifyResponse(model=call.task.model.id, results=results, usage=usage)

    async def Detect(self, request: pb.DetectRequest, context: Context) -> pb.DetectResponse:
        """See the contract."""
        call = self._calls.detect(request, self._settings.max_images)
        results, usage = await self._answer(call, context)
        return pb.DetectResponse(model=call.task.model.id, results=results, usage=usage)

    async def ReadText(self, request: pb.ReadTextRequest, context: Context) -> pb.ReadTextResponse:
        """See the contract."""
        call = self._calls.read_text(request, self._settings.max_images)
        results, usage = await self._answer(call, context)
        return pb.ReadTextResponse(model=call.task.model.id, results=results, usage=usage)

    async def DetectFaces(self, request: pb.DetectFacesRequest, context: Context) -> pb.DetectFacesResponse:
        """See the contract."""
        call = self._calls.detect_faces(request, self._settings.max_images)
        results, usage = await self._answer(call, context)
        return pb.DetectFacesResponse(model=call.task.model.id, results=results, usage=usage)

    async def InferStream(
        self, request: pb.InferStreamRequest, context: Context
    ) -> AsyncGenerator[pb.InferStreamResponse, None]:
        """See the contract."""
        name, call = self._calls.stream(request, self._settings.max_stream_images)
        model, usage = call.task.model.id, pb.Usage()
        inspected = await self._pipeline.inspect(call.images)
        for index, fault in enumerate(inspected):
            if isinstance(fault, ServiceError):
                yield pb.InferStreamResponse(model=model, error=self._refused(index, fault))
        sources = [source for source in inspected if isinstance(source, Source)]
        async with (
            self._admission.admit_call(self._pipeline.cost(call.task, sources), context),
            aclosing(self._answers(call, sources, context)) as answers,
        ):
            async for source, answer in answers:
                response = pb.InferStreamResponse(model=model)
                if isinstance(answer, ServiceError):
                    response.error.CopyFrom(self._refused(source.index, answer))
                else:
                    getattr(response, name).CopyFrom(call.result(answer))
                    messages.add_usage(usage, answer)
                yield response
        yield pb.InferStreamResponse(model=model, usage=usage)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """See the contract."""
        return pb.ListModelsResponse(models=[messages.model(task.model) for task in self._tasks.values()])

    async def _answer(self, call: Call, context: Context) -> tuple[list[Any], pb.Usage]:
        """Return the results of a unary call in the order of its pictures; the first bad picture fails it."""
        sources = [self._usable(source) for source in await self._pipeline.inspect(call.images)]
        results: dict[int, Any] = {}
        usage = pb.Usage()
        async with (
            self._admission.admit_call(self._pipeline.cost(call.task, sources), context),
            aclosing(self._answers(call, sources, context)) as answers,
        ):
            async for source, answer in answers:
                results[source.index] = call.result(self._usable(answer))
                messages.add_usage(usage, answer)
        return [results[source.index] for source in sources], usage

    async def _answers(
        self, call: Call, sources: Sequence[Source], context: Context
    ) -> AsyncGenerator[tuple[Source, Any], None]:
        """Yield each picture with its Answer, or the INVALID_ARGUMENT that it is, as they are done."""
        first = self._pipeline.pool.start_of(priority_of(context))
        jobs = [
            partial(self._one, call, source, Turn(first.priority, first.position + place))
            for place, source in enumerate(sources)
        ]
        async with aclosing(as_finished(jobs, self._settings.max_images_in_flight)) as finished:
            async for pair in finished:
                yield pair

    async def _one(self, call: Call, source: Source, turn: Turn) -> tuple[Source, Answer[Any] | ServiceError]:
        try:
            return source, await self._pipeline.answer(call.task, source, call.options, turn)
        except ServiceError as error:
            if error.kind is not Kind.INVALID_ARGUMENT:
                raise
            return source, error

    def _usable(self, outcome: Any) -> Any:
        if isinstance(outcome, ServiceError):
            self._pipeline.instruments.refused.add(1)
            raise outcome
        return outcome

    def _refused(self, index: int, error: ServiceError) -> pb.ImageError:
        self._pipeline.instruments.refused.add(1)
        return messages.image_error(index, error)
