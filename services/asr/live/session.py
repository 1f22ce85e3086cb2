"""One live stream while it runs: audio in, messages out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.live.line import Line
from services.asr.live.options import LiveOptions
from services.asr.live.reader import LiveReader
from services.asr.live.tools import LiveTools
from services.asr.live.track import Floats
from services.asr.sound.audio import SAMPLE_RATE
from services.asr.sound.live_decoding import LiveDecoder
from services.asr.thread_work import run_to_end
from services.common.errors import invalid

_PIECE_BYTES = 32 * 1024  # decoded at a time: bounds what a large message becomes
_MOST_UNSENT = 64  # messages that may wait for a slow reader before its audio has to
AUDIO = "audio"
"""What audio is called in errors."""


class Session:
    """See the module. `responses` runs it once."""

    def __init__(self, live: LiveOptions, reader: LiveReader, tools: LiveTools) -> None:
        self._live, self._reader, self._tools = live, reader, tools
        self._decoder = LiveDecoder(live.format, tools.limits, AUDIO, separate_channels=live.options.separate_channels)
        self._lines = [Line(number, live, reader, tools, self._send) for number in range(live.channels)]
        self._samples = 0
        self.cut_off = False
        """Whether the audio was ended before the caller did."""
        self._out: asyncio.Queue[pb.StreamingTranscribeResponse | Exception | None] = asyncio.Queue()
        self._sent = asyncio.Event()

    async def responses(
        self, audio: AsyncIterator[bytes], closing: Callable[[], Coroutine[Any, Any, None]]
    ) -> AsyncGenerator[pb.StreamingTranscribeResponse, None]:
        """Yield the results of `audio`, then the summary.

        When `closing` returns the audio ends where it is, and what has been said is still answered. Closing the
        generator cancels everything. Raises what went wrong, after the results before it.
        """
        work = asyncio.create_task(self._work(audio, closing))
        try:
            while (message := await self._out.get()) is not None:
                if isinstance(message, Exception):
                    raise message
                yield message
                self._sent.set()
                if self._live.single_utterance and message.hypothesis.is_final:
                    break
            yield pb.StreamingTranscribeResponse(received_seconds=self._seconds, summary=self._summary())
        finally:
            work.cancel()
            await asyncio.wait([work])
            self._tools.instruments.ended(self._reader.seconds, self._seconds)

    @property
    def _seconds(self) -> float:
        return self._samples / SAMPLE_RATE

    async def _work(self, audio: AsyncIterator[bytes], closing: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take the audio in and read it; what that fails with ends the stream."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take(audio, closing))
                for line in self._lines:
                    group.create_task(line.channel.run())
            self._out.put_nowait(None)
        except* Exception as errors:
            self._out.put_nowait(_first(errors))

    async def _take(self, audio: AsyncIterator[bytes], closing: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take audio until it ends, or until `closing` returns."""
        taking, watch = asyncio.create_task(self._take_all(audio)), asyncio.create_task(closing())
        try:
            await asyncio.wait([taking, watch], return_when=asyncio.FIRST_COMPLETED)
            self.cut_off = not taking.done()
        finally:
            taking.cancel()
            watch.cancel()
            await asyncio.wait([taking, watch])
        if not taking.cancelled():
            taking.result()
        await self._feed(self._decoder.finish)
        for line in self._lines:
            line.finish()

    async def _take_all(self, audio: AsyncIterator[bytes]) -> None:
        async for message in audio:
            for start in range(0, len(message), _PIECE_BYTES):
                piece = message[start : start + _PIECE_BYTES]
                await self._feed(partial(self._decoder.feed, piece))

    async def _feed(self, decode: Callable[[], Floats]) -> None:
        """Decode the next samples and let every channel hear them."""
        samples, probabilities = await run_to_end(lambda: self._heard(decode))
        if samples.shape[1] == 0:
            return
        if samples.shape[0] != len(self._lines):
            found, wanted = samples.shape[0], len(self._lines)
            raise invalid(AUDIO, f"{AUDIO} has {found} channels, the configuration says {wanted}")
        self._samples += samples.shape[1]
        if self._seconds > self._tools.limits.seconds:
            raise invalid(AUDIO, f"{AUDIO} is longer than the {self._tools.limits.seconds:g} s that a stream may last")
        for line, channel, chances in zip(self._lines, samples, probabilities, strict=True):
            await line.channel.hear(channel, chances)
        while self._out.qsize() > _MOST_UNSENT:
            self._sent.clear()
            await self._sent.wait()

    def _heard(self, decode: Callable[[], Floats]) -> tuple[Floats, list[Floats]]:
        samples = decode()
        return samples, [line.vad.feed(channel) for line, channel in zip(self._lines, samples, strict=False)]

    def _send(self, **content: Any) -> None:
        """Send an event or a hypothesis."""
        self._out.put_nowait(pb.StreamingTranscribeResponse(received_seconds=self._seconds, **content))

    def _summary(self) -> pb.Summary:
        return pb.Summary(
            model=self._live.options.model,
            language=self._reader.language,
            language_probability=self._reader.language_probability,
            duration=self._seconds,
            usage=pb.Usage(
                audio_seconds=self._seconds * len(self._lines),
                speech_seconds=sum(line.channel.speech_seconds for line in self._lines),
                output_tokens=sum(line.tokens for line in self._lines),
            ),
        )


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
