"""One utterance of a live stream: what is known of it while it is spoken. Positions count samples of the stream."""

from dataclasses import dataclass, field, replace
from typing import Protocol

from services.asr.live.agreement import Agreement, Cut
from services.asr.live.track import Floats
from services.asr.sound.audio import SAMPLE_RATE
from services.asr.vocabulary import Word

COVER = SAMPLE_RATE // 10
"""Samples after the last speech that a reading must have heard to stand for all of it."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that was read with care. Times are seconds of the stream."""

    text: str = ""
    words: tuple[Word, ...] = ()
    token_ids: tuple[int, ...] = ()
    temperature: float = 0.0
    average_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_probability: float = 0.0
    alternatives: tuple[tuple[str, float], ...] = ()
    """Other texts with their probabilities, best first."""


class Reader(Protocol):
    """Reads windows of one stream. `before` are the words that come right before the window."""

    async def interim(self, samples: Floats, before: list[Word]) -> list[Word]:
        """Return the words of a window in its own time, quickly."""

    async def final(self, samples: Floats, before: list[Word]) -> Text:
        """Return the text of a window in its own time, with care."""

    def joined(self, words: list[Word], rest: Text) -> Text:
        """Return the text of words and of what comes after them."""


@dataclass(slots=True)
class Utterance:
    """From the first sample of its audio to, once it is known, the sample after its last."""

    begin: int
    heard: int
    """The sample after the last one with speech so far."""
    unread: int = field(init=False)
    """Where the audio begins that is still to be read."""
    read_to: int = field(init=False)
    """How far the latest reading went."""
    end: int | None = None
    agreement: Agreement = field(default_factory=Agreement)
    _careful: tuple[int, int, Text] | None = None  # a careful reading and what it was of

    def __post_init__(self) -> None:
        self.unread = self.read_to = self.begin

    def read_with_care(self, stop: int, text: Text) -> None:
        """Take a careful reading, in stream time, of the unread audio up to `stop`."""
        self._careful = self.unread, stop, text

    @property
    def final(self) -> Text | None:
        """A careful reading that has heard everything up to now, if there is one."""
        if self._careful is None:
            return None
        start, stop, text = self._careful
        enough = self.heard + COVER if self.end is None else min(self.heard + COVER, self.end)
        return text if start == self.unread and stop >= enough else None

    def settle(self, cut: Cut) -> None:
        """Read no more of the audio before a cut, whose words are committed."""
        self.agreement.settle(cut)
        self.unread = max(self.unread, round(cut.time * SAMPLE_RATE))

    def rest(self, start: int) -> "Utterance":
        """Return the utterance that goes on at `start` where this one is divided."""
        rest = Utterance(start, max(self.heard, start))
        rest.end = self.end
        return rest


def moved(words: list[Word] | tuple[Word, ...], seconds: float) -> list[Word]:
    """Return `words` that much later."""
    return [replace(word, start=word.start + seconds, end=word.end + seconds) for word in words]
