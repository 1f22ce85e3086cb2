"""nvidia.riva.asr.RivaSpeechRecognition in front of flotilla.asr.v1: messages in, messages out.

The stubs are those of NVIDIA's own client package.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from flotilla.asr.v1 import asr_pb2 as pb
from riva.client.proto import riva_asr_pb2 as riva
from riva.client.proto import riva_asr_pb2_grpc

from services.asr.riva import config as riva_config
from services.asr.riva import messages as riva_messages
from services.asr.servicer import AsrServicer
from services.common.errors import Kind, ServiceError, invalid

SERVICE_NAME = riva.DESCRIPTOR.services_by_name["RivaSpeechRecognition"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


class RivaServicer(riva_asr_pb2_grpc.RivaSpeechRecognitionServicer):  # type: ignore[misc]  # the package has no types
    """Translates for `asr`."""

    def __init__(self, asr: AsrServicer) -> None:
        self._asr = asr

    async def Recognize(self, request: Any, context: Context) -> Any:  # the contract's name
        """Return what is said in a file."""
        try:
            answer = await self._asr.Transcribe(riva_config.file_request(request), context)
        except ServiceError as error:
            raise riva_config.in_riva_terms(error) from error
        return riva.RecognizeResponse(results=riva_messages.offline(answer), id=request.id)

    async def StreamingRecognize(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncGenerator[Any, None]:
        """Yield what is said while it is spoken."""
        stream = _Stream(request_iterator)
        try:
            async with aclosing(self._asr.StreamingTranscribe(stream.requests(), context)) as responses:
                async for response in responses:
                    if response.WhichOneof("content") == "hypothesis":
                        result = riva_messages.streaming(
                            response.hypothesis, response.received_seconds, stream.language
                        )
                        yield riva.StreamingRecognizeResponse(results=[result], id=stream.id)
        except ServiceError as error:
            raise riva_config.in_riva_terms(error) from error

    async def GetRivaSpeechRecognitionConfig(self, request: Any, context: Context) -> Any:
        """Return what the models can do; all of them where none is named."""
        models = (await self._asr.ListModels(pb.ListModelsRequest(), context)).models
        found = [model for model in models if request.model_name in ("", model.id)]
        if not found:
            loaded = ", ".join(model.id for model in models)
            message = f"model '{request.model_name}' does not exist; loaded: {loaded}"
            raise ServiceError(Kind.NOT_FOUND, message, field="model_name", code="model_not_found")
        return riva.RivaSpeechRecognitionConfigResponse(model_config=map(riva_messages.model_config, found))


class _Stream:
    """The requests of one live stream. How its audio is stored may only be known from its beginning."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests
        self.id: Any = None
        self.language = ""
        """The language the caller has named, as it was named."""

    async def requests(self) -> AsyncGenerator[pb.StreamingTranscribeRequest, None]:
        """Yield the stream's requests as flotilla.asr.v1 has them. Raises INVALID_ARGUMENT in Riva's terms."""
        first = await anext(self._requests, None)
        if first is None or first.WhichOneof("streaming_request") != "streaming_config":
            raise invalid("streaming_config", "streaming_config must be in the first message")
        self.id = first.id if first.HasField("id") else None
        self.language = first.streaming_config.config.language_code
        head, ended = b"", False
        while len(head) < riva_config.HEAD_BYTES and not ended:
            piece = await self._audio()
            head, ended = head + (piece or b""), piece is None
        yield riva_config.live_request(first.streaming_config, head)
        if head:
            yield pb.StreamingTranscribeRequest(audio=head)
        while not ended and (piece := await self._audio()) is not None:
            yield pb.StreamingTranscribeRequest(audio=piece)

    async def _audio(self) -> bytes | None:
        request = await anext(self._requests, None)
        if request is None:
            return None
        if request.WhichOneof("streaming_request") == "streaming_config":
            raise invalid("streaming_config", "streaming_config must be in the first message alone; another one came")
        return bytes(request.audio_content)
