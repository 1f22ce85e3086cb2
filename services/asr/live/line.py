"""One channel of a live stream: its recogniser, and what is sent and measured of it."""

import time
from collections.abc import Callable

from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.live import messages as live_messages
from services.asr.live.channel import Channel, ChannelOptions
from services.asr.live.endpointing import Ended, Started
from services.asr.live.options import LiveOptions
from services.asr.live.reader import LiveReader
from services.asr.live.tools import LiveTools
from services.asr.live.utterance import Text
from services.asr.vocabulary import Word


class Line:
    """See the module. Listens to its recogniser."""

    def __init__(
        self, number: int, live: LiveOptions, reader: LiveReader, tools: LiveTools, send: Callable[..., None]
    ) -> None:
        """`number` is the channel's; `send(event=...)` and `send(hypothesis=...)` take messages."""
        self._number, self._send, self._instruments = number, send, tools.instruments
        self._with_words = live.options.word_timestamps
        self._start_seconds = live.endpointing.start_speech_ms / 1000
        self._stop_seconds = live.endpointing.stop_silence_ms / 1000
        self.vad = tools.vad.stream()
        options = ChannelOptions(live.endpointing, live.interim_results)
        self.channel = Channel(options, reader, self, tools.thinning)
        self.tokens = 0
        """Tokens of the texts sent as final."""
        self._started: float | None = None  # when an utterance began of which no word is sent yet
        self._ended = 0.0
        self._finished: float | None = None

    def finish(self) -> None:
        """Take the end of the audio."""
        self._finished = time.monotonic()
        self.channel.finish()

    def spoken(self, change: Started | Ended, seconds: float) -> None:
        """Send an event."""
        if isinstance(change, Started):
            self._started = time.monotonic() - self._start_seconds
        else:
            self._ended = time.monotonic()
        self._send(event=live_messages.event(change, seconds, self._number))

    def interim(self, utterance: int, start: float, words: list[Word], stability: float) -> None:
        """Send what an utterance says so far."""
        self._measure_first_word()
        segment = pb.Segment(index=utterance, channel=self._number, start=start)
        self._send(hypothesis=live_messages.interim(segment, words, stability, with_words=self._with_words))

    def final(self, utterance: int, start: float, end: float, text: Text) -> None:
        """Send what an utterance says."""
        self._measure_first_word()
        self._measure_final()
        self.tokens += len(text.token_ids)
        segment = pb.Segment(index=utterance, channel=self._number, start=start, end=end)
        self._send(hypothesis=live_messages.final(segment, text, with_words=self._with_words))

    def skipped(self) -> None:
        """Count an interim reading left out."""
        self._instruments.skipped()

    def _measure_first_word(self) -> None:
        if self._started is not None:
            self._instruments.first_word(time.monotonic() - self._started)
            self._started = None

    def _measure_final(self) -> None:
        now = time.monotonic()
        if self._finished is not None:
            self._instruments.final(now - self._finished, "audio")
        elif self._ended:
            self._instruments.final(now - self._ended + self._stop_seconds, "speech")
