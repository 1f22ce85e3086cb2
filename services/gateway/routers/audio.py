"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Form
from flotilla.asr.v1 import asr_pb2 as pb
from starlette.responses import Response

from services.common.errors import Kind, ServiceError, invalid
from services.gateway.answers import stream
from services.gateway.audio_route import Uploads, route_class
from services.gateway.backends import Backend, Method
from services.gateway.directory import Directory
from services.gateway.errors import EVENT_STREAM, RESPONSES, rename
from services.gateway.pieces import Call
from services.gateway.schemas.audio import AudioRequest, AudioResponse
from services.gateway.schemas.common import TimeoutMs, seconds
from services.gateway.settings import GatewaySettings
from services.gateway.subtitles import SRT_TYPE, VTT_TYPE
from services.gateway.transcript import Task, Transcript, TranscriptEvents

TRANSCRIBE_FILE = Method(
    "/flotilla.asr.v1.AsrService/TranscribeFile", pb.TranscribeFileRequest, pb.TranscribeFileResponse
)
PIECE_BYTES = 256 * 1024
FORM_BYTES = 1024 * 1024
"""What of a body is not its upload."""
PATHS: dict[Task, str] = {"transcribe": "/v1/audio/transcriptions", "translate": "/v1/audio/translations"}
_TASKS: dict[Task, pb.Task.ValueType] = {"transcribe": pb.TASK_TRANSCRIBE, "translate": pb.TASK_TRANSLATE}
_FIELDS = {
    "audio": "file",
    "config.task": "model",
    "config.hot_words": "hotwords",
    "config.speech_threshold": "chunking_strategy.threshold",
}

Audio = Annotated[AudioRequest, Form(media_type="multipart/form-data")]
Messages = AsyncGenerator[pb.TranscribeFileResponse, None]


def create_router(asr: Backend, directory: Directory, settings: GatewaySettings) -> APIRouter:
    """Return the routes, served by the service behind `asr`."""
    router = APIRouter(route_class=route_class(Uploads(settings.audio_uploads_bytes)), tags=["audio"])
    keep_alive = settings.stream_keep_alive_seconds

    async def answer(body: AudioRequest, task: Task, timeout_ms: int | None) -> Response:
        timeout = seconds(timeout_ms) or settings.audio_timeout_seconds
        replies = asr.exchange(TRANSCRIBE_FILE, lambda: _requests(body, task), timeout)
        messages = _telling(replies, body.model, directory)
        if body.stream:
            return await stream([Call(messages, str)], TranscriptEvents(), keep_alive, last=b"")
        transcript = Transcript()
        async with aclosing(messages):
            async for message in messages:
                transcript.add(message)
        return transcript.response(body, task)

    @router.post(PATHS["transcribe"], **_documented())
    async def transcriptions(body: Audio, timeout_ms: TimeoutMs = None) -> Response:
        """Return what is said, in the language that is spoken."""
        return await answer(body, "transcribe", timeout_ms)

    @router.post(PATHS["translate"], **_documented())
    async def translations(body: Audio, timeout_ms: TimeoutMs = None) -> Response:
        """Return what is said, in English."""
        return await answer(body, "translate", timeout_ms)

    return router


async def _requests(body: AudioRequest, task: Task) -> AsyncIterator[pb.TranscribeFileRequest]:
    """Yield the configuration, then the upload in pieces."""
    yield pb.TranscribeFileRequest(config=to_config(body, task))
    await body.file.seek(0)
    while piece := await body.file.read(PIECE_BYTES):
        yield pb.TranscribeFileRequest(audio=piece)


def to_config(body: AudioRequest, task: Task) -> pb.TranscriptionConfig:
    """Return what is wanted as the service takes it."""
    return pb.TranscriptionConfig(
        model=body.model or "",
        language=body.language or "",
        task=_TASKS[task],
        prompt=body.prompt or "",
        hot_words=body.hotwords or body.keywords,
        temperature=body.temperature or None,  # of OpenAI's 0 the service's unset is the meaning
        word_timestamps="word" in body.granularities,
        speech_threshold=body.chunking_strategy.threshold if body.chunking_strategy else None,
    )


async def _telling(replies: Messages, model: str | None, directory: Directory) -> Messages:
    """Yield the messages that tell more than the progress; errors name the fields of the form.

    A model that takes no audio is not called unknown.
    """
    try:
        async with aclosing(replies):
            async for message in replies:
                if message.WhichOneof("content"):
                    yield message
    except ServiceError as error:
        rename(error, _public)
        if error.kind is Kind.NOT_FOUND and model is not None and await directory.has(model):
            raise invalid("model", f"model '{model}' does not take audio ({error.message})") from None
        raise


def _public(field: str) -> str:
    """Return the form's name of a field of the service."""
    name, bracket, position = field.partition("[")
    return _FIELDS.get(name, name).removeprefix("config.") + bracket + position


def _documented() -> dict[str, Any]:
    """Return the OpenAPI description of a route: what the signature does not say."""
    text = {"schema": {"type": "string"}}
    kinds = ("text/plain", SRT_TYPE, VTT_TYPE)
    answers = {kind.partition(";")[0]: text for kind in kinds}
    example = {"file": "speech.wav", "model": "whisper-base", "response_format": "json"}
    return {
        "responses": {200: {"model": AudioResponse, "content": answers | EVENT_STREAM}, **RESPONSES},
        "openapi_extra": {"requestBody": {"content": {"multipart/form-data": {"example": example}}}},
    }
