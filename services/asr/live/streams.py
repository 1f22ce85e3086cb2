"""Live streams: a configuration and audio in, messages out, within the places there are."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.live.instruments import LiveInstruments
from services.asr.live.options import LiveOptions, live_options_of
from services.asr.live.reader import LiveReader
from services.asr.live.session import AUDIO, Session
from services.asr.live.slots import Slots
from services.asr.live.thinning import Thinning
from services.asr.live.tools import LiveTools
from services.asr.recognition import Recognition
from services.asr.settings import AsrSettings
from services.asr.sound.audio import AudioLimits
from services.asr.vad import Vad
from services.common.errors import Kind, ServiceError, invalid
from services.common.request_context import priority_of
from services.common.service import Parts

_FIRST = "the first message must have the configuration"


@dataclass(frozen=True, slots=True)
class _Limits:
    audio: AudioLimits
    idle_seconds: float
    closing_seconds: float
    """How long streams may go on once the service is shutting down."""


class LiveStreams:
    """Answers live streams with the models it is given."""

    def __init__(self, recognitions: Mapping[str, Recognition], vad: Vad, parts: Parts, settings: AsrSettings) -> None:
        """`recognitions` by public model id, the default one first."""
        self._recognitions, self._load, self._draining = recognitions, parts.load, parts.draining
        self._slots = Slots(settings.max_streams)
        self._instruments = LiveInstruments(parts.telemetry, self._slots)
        self._limits = _Limits(
            AudioLimits(settings.max_audio_bytes, settings.max_audio_seconds, settings.max_channels),
            settings.stream_idle_seconds,
            settings.common.drain_grace_seconds / 2,
        )
        self._tools = LiveTools(vad, Thinning(parts.load), self._limits.audio, self._instruments)
        parts.load.bounded_by(lambda: self._slots.use)

    async def transcribe(
        self, requests: AsyncIterator[pb.StreamingTranscribeRequest], context: Any
    ) -> AsyncGenerator[pb.StreamingTranscribeResponse, None]:
        """Yield the messages of one stream. Closing it ends everything at once. Raises ServiceError."""
        messages = _within(requests, self._limits.idle_seconds)
        live = await self._configuration(messages)
        with self._slots.hold(live.channels, self._instruments.refused):
            recognition = self._recognitions[live.options.model]
            reader = LiveReader(recognition, live.options, self._load, priority_of(context))
            session = Session(live, reader, self._tools)
            async with aclosing(session.responses(_audio(messages), self._closing)) as responses:
                async for response in responses:
                    yield response
            if session.cut_off:
                raise ServiceError(
                    Kind.UNAVAILABLE, "this replica is shutting down; the stream ends here, all results are sent"
                )

    async def _configuration(self, messages: AsyncIterator[pb.StreamingTranscribeRequest]) -> LiveOptions:
        async for message in messages:
            if message.WhichOneof("content") != "config":
                raise invalid("config", f"config: {_FIRST}")
            live = live_options_of(
                message.config, [recognition.model for recognition in self._recognitions.values()], self._limits.audio
            )
            if live.channels > self._slots.places:
                field = "config.config.separate_channels"
                places = self._slots.places
                raise invalid(field, f"{field}: {live.channels} channels need as many places; there are {places}")
            return live
        raise invalid("config", f"config: the stream has no message; {_FIRST}")

    async def _closing(self) -> None:
        """Return when streams have to end because the service does."""
        await self._draining.wait()
        await asyncio.sleep(self._limits.closing_seconds)


async def _within(
    requests: AsyncIterator[pb.StreamingTranscribeRequest], seconds: float
) -> AsyncIterator[pb.StreamingTranscribeRequest]:
    """Yield messages; raises REQUEST_TIMEOUT when none comes for `seconds`."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                message = await anext(requests, None)
        except TimeoutError:
            raise ServiceError(
                Kind.REQUEST_TIMEOUT, f"the stream has sent nothing for {seconds:g} s; silence has to be sent as audio"
            ) from None
        if message is None:
            return
        yield message


async def _audio(messages: AsyncIterator[pb.StreamingTranscribeRequest]) -> AsyncIterator[bytes]:
    async for message in messages:
        match message.WhichOneof("content"):
            case "audio":
                yield message.audio
            case "config":
                raise invalid("config", "config: the stream has its configuration already; all that follows is audio")
            case _:
                raise invalid(AUDIO, f"{AUDIO}: the message has neither audio nor a configuration")
