"""A recording of any length to its segments. Knows where windows are cut and how many are in flight; no messages.

Memory is bounded: a recording is read from disk block by block, and only so many windows wait or are read at a time.
Segments come in order of time while later windows are still being worked on.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from services.asr.options import Options
from services.asr.passage import Segment
from services.asr.recognition import Recognition, Turn
from services.asr.segmentation import Segmentation, Stretch
from services.asr.sound.audio import SAMPLE_RATE, Audio
from services.asr.thread_work import run_to_end
from services.asr.vad import FRAME, Vad

Floats = NDArray[np.float32]
_BLOCK = 512 * FRAME  # samples that are searched for speech at once: 16 s
_LANGUAGE_WINDOWS = 3
_FIRST_SECONDS = 10.0  # of speech that usually tell the language
_SURE = 0.8  # probability of a language that needs no more


@dataclass(frozen=True, slots=True)
class Tools:
    """What transcripts are made with."""

    recognition: Recognition
    vad: Vad
    most_windows: int
    """Windows of one recording in flight at a time."""


class Transcript:
    """The transcript of one recording while it is made."""

    def __init__(self, audio: Audio, options: Options, tools: Tools, priority: int = 0) -> None:
        self._audio, self._options, self._priority = audio, options, priority
        self._recognition, self._vad = tools.recognition, tools.vad
        each = max(1, tools.most_windows // audio.channels)
        self._tracks = [_Track(self, channel, each) for channel in range(audio.channels)]
        self.language = options.language or ""
        """ISO 639-1 code; empty while it is not known, and where nobody speaks."""
        self.language_probability = 1.0 if options.language else 0.0
        self.tokens = 0
        """Text tokens of the segments so far."""

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self._audio.seconds

    @property
    def done_seconds(self) -> float:
        """How far all channels are done."""
        return min((track.done for track in self._tracks), default=0) / SAMPLE_RATE

    @property
    def speech_seconds(self) -> float:
        """Seconds with speech so far, of all channels."""
        return sum(track.spoken for track in self._tracks) / SAMPLE_RATE

    async def segments(self) -> AsyncGenerator[Segment, None]:
        """Yield the segments in order of time. Closing it drops what is in flight. Raises ServiceError."""
        if self._options.language is None:
            await self._detect_language()
        async with aclosing(_merged(self._tracks)) as merged:
            async for segment in merged:
                self.tokens += len(segment.ids)
                yield segment

    async def stretches(self, track: "_Track") -> AsyncGenerator[Stretch, None]:
        """Yield the windows of a channel."""
        stream, segmentation = self._vad.stream(), Segmentation(self._options.speech_threshold)
        for start in range(0, self._audio.samples, _BLOCK):
            samples = await self._samples(track.channel, start, start + _BLOCK)
            for stretch in segmentation.feed(await run_to_end(partial(stream.feed, samples))):
                yield stretch
            track.searched = segmentation.position
        last = await run_to_end(stream.finish)
        for stretch in (*segmentation.feed(last), *segmentation.finish(self._audio.samples)):
            yield stretch
        track.searched = self._audio.samples

    async def read(self, track: "_Track", stretch: Stretch, waiting: int) -> list[Segment]:
        """Return the segments of a window in the time of the recording."""
        samples = await self._samples(track.channel, stretch.start, stretch.stop)
        offset = stretch.start / SAMPLE_RATE
        speech = [(start / SAMPLE_RATE - offset, stop / SAMPLE_RATE - offset) for start, stop in stretch.speech]
        options = replace(self._options, language=self.language)
        turn = Turn(self._priority, waiting)
        passage = await self._recognition.read(samples, options, turn, speech=speech)
        return [replace(segment.later(offset), channel=track.channel) for segment in passage.segments]

    async def _detect_language(self) -> None:
        """Find the language in the first speech; in more of it where that is not sure."""
        windows: list[Floats] = []
        for track in self._tracks:
            async with aclosing(self.stretches(track)) as stretches:
                async for stretch in stretches:
                    windows.append(await self._samples(track.channel, stretch.start, stretch.stop))
                    enough = sum(map(len, windows)) >= _FIRST_SECONDS * SAMPLE_RATE
                    if enough or len(windows) == _LANGUAGE_WINDOWS:
                        break
            if len(windows) == _LANGUAGE_WINDOWS:
                break
        for most in (_FIRST_SECONDS, None):
            if windows and self.language_probability < _SURE:
                parts = [window[: round(most * SAMPLE_RATE) if most else None] for window in windows]
                turn = Turn(self._priority)
                self.language, self.language_probability = await self._recognition.language_of(*parts, turn=turn)

    async def _samples(self, channel: int, start: int, stop: int) -> Floats:
        return await run_to_end(partial(self._audio.read, channel, start, stop))


@dataclass(slots=True)
class _Pending:
    stretch: Stretch
    task: "asyncio.Task[list[Segment]]"


class _Track:
    """One channel of a recording."""

    def __init__(self, transcript: Transcript, channel: int, most_windows: int) -> None:
        self.channel = channel
        self.searched = 0
        """Samples before which nothing is still to be found."""
        self.spoken = 0
        """Samples with speech found so far."""
        self._transcript, self._most_windows = transcript, most_windows
        self._pending: deque[_Pending] = deque()

    @property
    def done(self) -> int:
        """Samples that are done."""
        return self._pending[0].stretch.start if self._pending else self.searched

    async def windows(self) -> AsyncGenerator[tuple[int, list[Segment]], None]:
        """Yield, window by window, the sample up to which the channel is done, and the segments."""
        room, found = asyncio.Semaphore(self._most_windows), asyncio.Event()
        searching = asyncio.create_task(self._search(room, found))
        try:
            while True:
                found.clear()
                if self._pending:
                    first = self._pending[0]
                    segments = await first.task
                    self._pending.popleft()
                    room.release()
                    yield first.stretch.stop, segments
                elif searching.done():
                    searching.result()
                    return
                else:
                    await found.wait()
        finally:
            tasks = [searching, *(pending.task for pending in self._pending)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _search(self, room: asyncio.Semaphore, found: asyncio.Event) -> None:
        """Start reading windows as they are found and as there is room."""
        transcript = self._transcript
        try:
            async with aclosing(transcript.stretches(self)) as stretches:
                async for stretch in stretches:
                    await room.acquire()
                    self.spoken += stretch.spoken
                    task = asyncio.create_task(transcript.read(self, stretch, len(self._pending)))
                    self._pending.append(_Pending(stretch, task))
                    found.set()
        finally:
            found.set()


async def _merged(tracks: Sequence[_Track]) -> AsyncGenerator[Segment, None]:
    """Yield the segments of all channels in order of time."""
    ready: list[tuple[float, int, int, Segment]] = []
    order = itertools.count()
    async with AsyncExitStack() as closing:
        running = {track: await closing.enter_async_context(aclosing(track.windows())) for track in tracks}
        done = dict.fromkeys(tracks, 0)
        while running:
            track = min(running, key=done.__getitem__)
            try:
                done[track], segments = await anext(running[track])
            except StopAsyncIteration:
                del running[track]
                continue
            for segment in segments:
                heapq.heappush(ready, (segment.start, segment.channel, next(order), segment))
            limit = min(done[other] for other in running) / SAMPLE_RATE
            while ready and ready[0][0] < limit:
                yield heapq.heappop(ready)[-1]
        while ready:
            yield heapq.heappop(ready)[-1]
