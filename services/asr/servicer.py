"""flotilla.asr.v1: proto in, proto out. No samples, no tensors."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import grpc
from flotilla.asr.v1 import asr_pb2 as pb
from flotilla.asr.v1 import asr_pb2_grpc

from services.asr import messages
from services.asr.files import Files, Order
from services.asr.options import ServedModel, options_of
from services.common.errors import invalid

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["AsrService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


class Live(Protocol):
    """Who takes live audio."""

    def transcribe(
        self, requests: AsyncIterator[pb.StreamingTranscribeRequest], context: Context
    ) -> AsyncGenerator[pb.StreamingTranscribeResponse, None]:
        """Yield the answers to a stream. Raises ServiceError."""


class AsrServicer(asr_pb2_grpc.AsrServiceServicer):
    """Answers with the models it is given, the default one first."""

    def __init__(self, models: Sequence[ServedModel], files: Files, live: Live) -> None:
        self._models, self._files, self._live = models, files, live

    async def Transcribe(self, request: pb.TranscribeRequest, context: Context) -> pb.TranscribeResponse:
        """See the contract."""
        order = self._order(request.config)
        answer = pb.TranscribeResponse()
        async with aclosing(self._files.transcribe(_one(request.audio), order, context)) as events:
            async for event in events:
                if event.segment is not None:
                    answer.text += event.segment.text
                    answer.segments.append(messages.segment(event.segment, len(answer.segments)))
                if event.summary is not None:
                    answer.summary.CopyFrom(messages.summary(event.summary))
        answer.text = answer.text.strip()
        return answer

    async def TranscribeFile(
        self, request_iterator: AsyncIterator[pb.TranscribeFileRequest], context: Context
    ) -> AsyncGenerator[pb.TranscribeFileResponse, None]:
        """See the contract."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("content") != "config":
            raise invalid("config", "config must be in the first message, before any audio")
        order, index = self._order(first.config), 0
        async with aclosing(self._files.transcribe(_pieces(request_iterator), order, context)) as events:
            async for event in events:
                yield messages.response(event, index)
                index += event.segment is not None

    async def StreamingTranscribe(
        self, request_iterator: AsyncIterator[pb.StreamingTranscribeRequest], context: Context
    ) -> AsyncGenerator[pb.StreamingTranscribeResponse, None]:
        """See the contract."""
        async with aclosing(self._live.transcribe(request_iterator, context)) as responses:
            async for response in responses:
                yield response

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """See the contract."""
        return pb.ListModelsResponse(models=map(messages.model, self._models))

    def _order(self, config: pb.TranscriptionConfig) -> Order:
        return Order(options_of(config, self._models), messages.file_format(config.audio, self._files.limits))


async def _one(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


async def _pieces(requests: AsyncIterator[pb.TranscribeFileRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        match request.WhichOneof("content"):
            case "audio":
                yield request.audio
            case "config":
                raise invalid("config", "config must be in the first message alone; another one came")
            case _:
                raise invalid("audio", "audio must be in every message after the first; one is empty")
