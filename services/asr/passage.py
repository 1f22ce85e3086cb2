"""What was read in a window of sound: segments, their words, other texts. Times are seconds of the window."""

import zlib
from dataclasses import dataclass, replace

from services.asr.vocabulary import Word


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another text for a segment."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a text with its times."""

    start: float
    end: float
    text: str
    ids: tuple[int, ...]
    """Text tokens."""
    words: tuple[Word, ...] = ()
    temperature: float = 0.0
    average_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_probability: float = 0.0
    alternatives: tuple[Alternative, ...] = ()
    """Best first."""
    window_start: float = 0.0
    channel: int = 0

    def later(self, seconds: float) -> "Segment":
        """Return the segment in the time of a file in which its window begins at `seconds`."""
        words = tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in self.words)
        return replace(
            self,
            start=self.start + seconds,
            end=self.end + seconds,
            words=words,
            window_start=self.window_start + seconds,
        )


@dataclass(frozen=True, slots=True)
class Passage:
    """All that is said in a window; no segments where nothing is."""

    segments: tuple[Segment, ...]
    language: str
    """ISO 639-1 code."""

    @property
    def text(self) -> str:
        """The whole text."""
        return joined(self.segments)


@dataclass(frozen=True, slots=True)
class Interim:
    """A first reading of a window."""

    ids: tuple[int, ...]
    """Text tokens."""
    words: tuple[Word, ...]
    average_logprob: float
    no_speech_probability: float


def joined(segments: "tuple[Segment, ...] | list[Segment]") -> str:
    """Return the text of segments in their order; a space stands between where the model has written one."""
    return "".join(segment.text for segment in segments).strip()


def compression_ratio(text: str) -> float:
    """Return how many times shorter zlib makes a text, as Whisper measures it; above 2.4 the text repeats itself."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0
