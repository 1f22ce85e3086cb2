"""The recogniser of one channel of a live stream: what is read when, what is sent, what is forgotten.

hear() notes audio and finds where utterances begin and end; run() reads them, one reading at a time:
interim readings while somebody speaks, a careful one in every pause, which often is the end already.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from services.asr.live.agreement import sentence_cut, without_repeats, word_cut
from services.asr.live.endpointing import Ended, Endpointer, EndpointingOptions, Started
from services.asr.live.thinning import Pace, Thinning
from services.asr.live.track import Floats, Track
from services.asr.live.utterance import COVER, Reader, Text, Utterance, moved
from services.asr.sound.audio import SAMPLE_RATE
from services.asr.vad import FRAME
from services.asr.vocabulary import Word

LEAD_IN, LEAD_OUT = round(0.3 * SAMPLE_RATE), round(0.2 * SAMPLE_RATE)
LONGEST = 25 * SAMPLE_RATE
"""Samples of an utterance; a longer one is divided at the end of a word."""
LONGEST_WINDOW, LONGEST_SEARCH = 8 * SAMPLE_RATE, 14 * SAMPLE_RATE
"""Samples that are read again and again: past the first the window may be cut between sentences, past the second
between words."""
MOST_HELD = 2 * LONGEST
"""Samples held before input has to wait."""
LEAST_NEW = SAMPLE_RATE // 2
_PAUSE_FRAMES = 6  # of silence before a careful reading is tried: 192 ms
_LATE = 0.3  # seconds after the last speech at which no word begins
Result = TypeVar("Result")


class Listener(Protocol):
    """Who hears of results; times are seconds of the stream."""

    def spoken(self, change: Started | Ended, seconds: float) -> None:
        """Somebody has begun, or finished."""

    def interim(self, utterance: int, start: float, words: list[Word], stability: float) -> None:
        """What an utterance says so far."""

    def final(self, utterance: int, start: float, end: float, text: Text) -> None:
        """What an utterance says."""

    def skipped(self) -> None:
        """An interim reading was left out."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What is wanted of a channel."""

    endpointing: EndpointingOptions
    interim_results: bool


class Channel:
    """See the module."""

    def __init__(self, options: ChannelOptions, reader: Reader, listener: Listener, thinning: Thinning) -> None:
        self._options, self._reader, self._listener, self._thinning = options, reader, listener, thinning
        self._endpointer = Endpointer(options.endpointing)
        self._track, self._pace = Track(), Pace()
        self._utterances: deque[Utterance] = deque()
        self._finals = 0
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._finished = False
        self._reading: asyncio.Future[Any] | None = None  # one that may be left out
        self._careful_to = 0  # how far it goes, where it is a careful one

    @property
    def speech_seconds(self) -> float:
        """Seconds of speech so far."""
        return self._endpointer.speech_frames * FRAME / SAMPLE_RATE

    async def hear(self, samples: Floats, probabilities: Floats) -> None:
        """Take the next samples [n] and the probabilities of speech of the frames [k] that are complete with them.

        Waits while there is more to read than may be held.
        """
        self._track.append(samples)
        self._note(self._endpointer.feed(probabilities.tolist()))
        while len(self._track) > MOST_HELD:
            self._room.clear()
            await self._room.wait()

    def finish(self) -> None:
        """Take the end of the audio: what is spoken ends here."""
        self._finished = True
        self._note(self._endpointer.finish())

    async def run(self) -> None:
        """Read until everything is read after `finish`. Raises what the reader raises."""
        while True:
            self._wake.clear()  # before looking: what changes meanwhile is looked at again
            while self._utterances and await self._advance(self._utterances[0]):
                self._forget()
            if self._finished and not self._utterances:
                return
            await self._wake.wait()

    def _note(self, changes: Sequence[Started | Ended]) -> None:
        for change in changes:
            position = min(change.frame * FRAME, self._track.last)
            self._listener.spoken(change, position / SAMPLE_RATE)
            if isinstance(change, Started):
                begin = max(position - LEAD_IN, self._track.first)
                self._utterances.append(Utterance(begin, position))
            else:
                self._end(self._utterances[-1], position)
        if self._endpointer.speaking:
            self._utterances[-1].heard = min(self._endpointer.spoken_until * FRAME, self._track.last)
        self._forget()
        self._wake.set()

    def _end(self, utterance: Utterance, position: int) -> None:
        utterance.heard, utterance.end = position, min(position + LEAD_OUT, self._track.last)
        late = self._careful_to < position + COVER
        if self._reading is not None and utterance is self._utterances[0] and late:
            self._reading.cancel()

    async def _advance(self, utterance: Utterance) -> bool:
        """Do what is next for the first utterance. Return whether there may be more to do at once."""
        last = self._track.last if utterance.end is None else utterance.end
        if last - utterance.begin > LONGEST:
            await self._divide(utterance)
            return True
        if utterance.end is not None:
            await self._conclude(utterance)
            return True
        if self._pausing(utterance):
            return await self._read_in_pause(utterance)
        if self._wants_interim(utterance):
            return await self._read_interim(utterance)
        return False

    def _pausing(self, utterance: Utterance) -> bool:
        silent = self._endpointer.silent_frames >= _PAUSE_FRAMES
        return silent and utterance.final is None and utterance.read_to < utterance.heard + LEAD_OUT // 2

    def _wants_interim(self, utterance: Utterance) -> bool:
        if utterance.heard - utterance.read_to < LEAST_NEW or not self._pace.due:
            return False
        return self._options.interim_results or self._track.last - utterance.unread > LONGEST_WINDOW - SAMPLE_RATE

    async def _read_interim(self, utterance: Utterance) -> bool:
        stop = self._track.last
        self._careful_to = 0
        words = await self._unless_late(
            utterance, stop, lambda window: self._reader.interim(window, utterance.agreement.settled)
        )
        if words is None:
            return False
        self._take(utterance, stop, moved(words, utterance.unread / SAMPLE_RATE))
        return True

    async def _read_in_pause(self, utterance: Utterance) -> bool:
        self._careful_to = stop = self._track.last
        text = await self._unless_late(
            utterance, stop, lambda window: self._reader.final(window, utterance.agreement.settled)
        )
        if text is None:
            return False
        text = _later(text, utterance.unread)
        utterance.read_with_care(stop, text)
        self._take(utterance, stop, list(text.words))
        return True

    async def _unless_late(
        self, utterance: Utterance, stop: int, read: Callable[[Floats], Awaitable[Result]]
    ) -> Result | None:
        """Make a reading that may be left out; None where it was, or where the utterance ended meanwhile."""
        frames = (stop - utterance.unread) * 100 // SAMPLE_RATE
        if not self._thinning.allows(frames):
            self._listener.skipped()
            self._pace.skip()
            return None
        window = self._track.read(utterance.unread, stop)
        with self._thinning.reading(frames), self._pace.reading():
            self._reading = task = asyncio.ensure_future(read(window))
            try:
                await asyncio.wait([task])
            finally:
                task.cancel()
                self._reading = None
        return None if task.cancelled() else task.result()

    def _take(self, utterance: Utterance, stop: int, words: list[Word]) -> None:
        latest = utterance.heard / SAMPLE_RATE + _LATE
        utterance.agreement.update(without_repeats([word for word in words if word.start < latest]))
        utterance.read_to = stop
        if utterance.end is None:
            self._send_interim(utterance)
            self._shorten(utterance)

    def _send_interim(self, utterance: Utterance) -> None:
        words, agreement = utterance.agreement.words, utterance.agreement
        if words and self._options.interim_results:
            self._listener.interim(self._finals, utterance.begin / SAMPLE_RATE, words, agreement.stability)

    def _shorten(self, utterance: Utterance) -> None:
        """Read no more of what is committed where the window has become long."""
        length, committed = self._track.last - utterance.unread, utterance.agreement.committed
        cut = sentence_cut(committed) if length > LONGEST_WINDOW else None
        if cut is None and length > LONGEST_SEARCH:
            cut = word_cut(committed)
        if cut is not None and utterance.final is None:
            utterance.settle(cut)

    async def _conclude(self, utterance: Utterance) -> None:
        """Send the final result of an utterance that has ended."""
        text = utterance.final or await self._rest_of(utterance)
        self._send_final(utterance, utterance.heard, self._reader.joined(utterance.agreement.settled, text))
        self._utterances.popleft()

    async def _rest_of(self, utterance: Utterance) -> Text:
        if utterance.heard - utterance.unread < COVER:
            return Text()  # all is settled
        window = self._track.read(utterance.unread, utterance.end or self._track.last)
        return _later(await self._reader.final(window, utterance.agreement.settled), utterance.unread)

    async def _divide(self, utterance: Utterance) -> None:
        """Send the beginning of a long utterance as final, up to the end of a word."""
        settled, unread = utterance.agreement.settled, utterance.unread
        if settled:
            self._send_final(utterance, unread, self._reader.joined(settled, Text()))
        else:
            window = self._track.read(unread, unread + LONGEST)
            text = _later(await self._reader.final(window, []), unread)
            words = list(text.words)
            half = len(words) // 2
            cut = sentence_cut(words[half:]) or word_cut(words[half:])
            number, until = (half + cut.words, cut.time) if cut else (len(words), (unread + LONGEST) / SAMPLE_RATE)
            unread = round(until * SAMPLE_RATE)
            self._send_final(utterance, unread, self._reader.joined(words[:number], Text()))
        self._utterances[0] = utterance.rest(unread)

    def _send_final(self, utterance: Utterance, until: int, text: Text) -> None:
        if not text.text:
            return
        self._listener.final(self._finals, utterance.begin / SAMPLE_RATE, until / SAMPLE_RATE, text)
        self._finals += 1

    def _forget(self) -> None:
        """Let go of audio that nothing will read."""
        needed = self._utterances[0].unread if self._utterances else self._track.last - LEAD_IN - FRAME * 64
        self._track.forget(needed)
        if len(self._track) <= MOST_HELD:
            self._room.set()


def _later(text: Text, samples: int) -> Text:
    return replace(text, words=tuple(moved(text.words, samples / SAMPLE_RATE)))
