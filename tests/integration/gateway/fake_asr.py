# ruff: noqa: N802
"""A speech service without a model: says what it is told to say, counts what it hears, fails when told to."""

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from flotilla.asr.v1 import asr_pb2 as pb
from flotilla.asr.v1 import asr_pb2_grpc
from grpc_health.v1 import health_pb2_grpc
from riva.client.proto import riva_asr_pb2 as riva
from riva.client.proto import riva_asr_pb2_grpc as riva_grpc

from services.common.errors import Kind, ServiceError, invalid
from services.common.health import Health
from services.common.interceptors import Boundary
from services.common.server import grpc_server
from tests.integration.gateway.fake_embedding import telemetry

MODEL, ENGLISH_MODEL = "fake-whisper", "fake-whisper.en"
SECONDS = 4.5
USAGE = pb.Usage(audio_seconds=SECONDS, speech_seconds=3.0, output_tokens=7)
SUMMARY = pb.Summary(model=MODEL, language="de", language_probability=0.9, duration=SECONDS, usage=USAGE)


def segment(number: int, text: str, start: float, end: float) -> pb.Segment:
    """A segment whose words share its time."""
    said = text.split()
    step = (end - start) / max(1, len(said))
    words = [
        pb.Word(text=word, start=start + i * step, end=start + (i + 1) * step, confidence=0.5)
        for i, word in enumerate(said)
    ]
    return pb.Segment(
        index=number,
        start=start,
        end=end,
        text=text,
        words=words,
        token_ids=[50, number],
        temperature=0.2,
        average_logprob=-0.3,
        compression_ratio=1.1,
        no_speech_probability=0.01,
        window_start=start,
    )


SEGMENTS = [segment(0, " Guten Tag, Welt.", 0.0, 1.5), segment(1, " Es regnet.", 1.5, 4.1)]
TEXT = "Guten Tag, Welt. Es regnet."


def answer(number: int) -> pb.TranscribeFileResponse:
    """The message with that segment."""
    progress = pb.Progress(done_seconds=SEGMENTS[number].end, total_seconds=SECONDS)
    return pb.TranscribeFileResponse(progress=progress, segment=SEGMENTS[number])


PROGRESS = pb.TranscribeFileResponse(progress=pb.Progress(done_seconds=1, total_seconds=SECONDS))
END = pb.TranscribeFileResponse(progress=pb.Progress(done_seconds=4, total_seconds=SECONDS), summary=SUMMARY)
WHOLE = (PROGRESS, answer(0), PROGRESS, answer(1), END)


@dataclass
class Heard:
    """What a call has brought."""

    config: Any = None
    pieces: list[int] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)
    ended: bool = False

    def add(self, audio: bytes) -> None:
        self.pieces.append(len(audio))
        self.digest.update(audio)


@dataclass
class FakeAsr(asr_pb2_grpc.AsrServiceServicer, riva_grpc.RivaSpeechRecognitionServicer):
    """One replica."""

    address: str = ""
    calls: list[Heard] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    running_calls: int = 0
    deaf: bool = False
    """Takes the configuration and no audio until released."""
    refusal: Exception | None = None
    """Raised before any audio is read."""
    most_pieces: int = 0
    """Pieces after which a live stream ends; 0: when its caller ends it."""
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    script: Callable[[Heard], Any] = lambda _: WHOLE
    """The answer: messages to send, errors to raise, and coroutine functions to wait for."""
    health: Health = field(default_factory=lambda: Health.of([], []))
    stop: Callable[[], Awaitable[None]] = field(init=False)
    """Stops the server, and whatever it is doing."""

    async def hang(self) -> None:
        """A step of a script: wait until cancelled or released."""
        self.entered.set()
        await self.release.wait()

    def says(self, *steps: Any) -> None:
        """Answer every call with these steps."""
        self.script = lambda _: steps

    @property
    def heard(self) -> Heard:
        """The last call."""
        return self.calls[-1]

    @asynccontextmanager
    async def _call(self, context: Any) -> AsyncIterator[Heard]:
        heard = Heard()
        self.calls.append(heard)
        self.metadata.append(dict(context.invocation_metadata()))
        self.remaining.append(context.time_remaining())
        self.running_calls += 1
        self.idle.clear()
        try:
            yield heard
        finally:
            self.running_calls -= 1
            if not self.running_calls:
                self.idle.set()

    async def TranscribeFile(
        self, requests: AsyncIterator[pb.TranscribeFileRequest], context: Any
    ) -> AsyncIterator[pb.TranscribeFileResponse]:
        async with self._call(context) as heard:
            if self.refusal is not None:
                raise self.refusal
            heard.config = (await anext(aiter(requests))).config
            _check(heard.config)
            if self.deaf:
                await self.hang()
            async for request in requests:
                heard.add(request.audio)
            heard.ended = True
            for step in self.script(heard):
                if isinstance(step, Exception):
                    raise step
                if callable(step):
                    await step()
                else:
                    yield step

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        rows = [
            pb.Model(id=name, triton_model=name.replace("-", "_"), license="MIT", profile="cpu-int8")
            for name in (MODEL, ENGLISH_MODEL)
        ]
        return pb.ListModelsResponse(models=rows)

    async def Recognize(self, request: riva.RecognizeRequest, context: Any) -> riva.RecognizeResponse:
        async with self._call(context) as heard:
            heard.config = request.config
            heard.add(request.audio)
            result = riva.SpeechRecognitionResult(alternatives=[_said(TEXT)], audio_processed=SECONDS)
            return riva.RecognizeResponse(results=[result])

    async def StreamingRecognize(
        self, requests: AsyncIterator[riva.StreamingRecognizeRequest], context: Any
    ) -> AsyncIterator[riva.StreamingRecognizeResponse]:
        """Answer every piece at once: with its number, and with the text at the end."""
        async with self._call(context) as heard:
            heard.config = (await anext(aiter(requests))).streaming_config
            if not heard.config.config.sample_rate_hertz:
                raise invalid("config.sample_rate_hertz", "config.sample_rate_hertz is required")
            if self.refusal is not None:
                raise self.refusal
            if self.deaf:
                await self.hang()
            async for request in requests:
                heard.add(request.audio_content)
                yield _streamed(f"piece {len(heard.pieces)}", is_final=False)
                if len(heard.pieces) == self.most_pieces:
                    break
            heard.ended = True
            yield _streamed(TEXT, is_final=True)

    async def GetRivaSpeechRecognitionConfig(self, request: Any, context: Any) -> Any:
        config = riva.RivaSpeechRecognitionConfigResponse.Config(model_name=MODEL, parameters={"streaming": "True"})
        return riva.RivaSpeechRecognitionConfigResponse(model_config=[config])

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeAsr"]:
        """Serve on a port of loopback while the block runs."""
        server = grpc_server(64 * 1024 * 1024, [Boundary(telemetry(), lambda: False)])
        asr_pb2_grpc.add_AsrServiceServicer_to_server(self, server)
        riva_grpc.add_RivaSpeechRecognitionServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health.grpc, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        self.stop = functools.partial(server.stop, None)
        await server.start()
        await self.health.open()
        try:
            yield self
        finally:
            await self.health.close()
            await server.stop(None)


def _check(config: pb.TranscriptionConfig) -> None:
    if config.model not in {"", MODEL, ENGLISH_MODEL}:
        message = f"config.model '{config.model}' is not loaded; loaded: {MODEL}, {ENGLISH_MODEL}"
        raise ServiceError(Kind.NOT_FOUND, message, field="config.model", code="model_not_found")
    if config.language == "klingon":
        raise invalid("config.language", "config.language 'klingon' is not a language of this model")


def _said(text: str) -> riva.SpeechRecognitionAlternative:
    return riva.SpeechRecognitionAlternative(transcript=text, confidence=0.5)


def _streamed(text: str, is_final: bool) -> riva.StreamingRecognizeResponse:
    result = riva.StreamingRecognitionResult(
        alternatives=[_said(text)], is_final=is_final, audio_processed=SECONDS if is_final else SECONDS / 2
    )
    return riva.StreamingRecognizeResponse(results=[result])
