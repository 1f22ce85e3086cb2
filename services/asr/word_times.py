"""Times as the model finds them, put right: a pause belongs to no word, and silence to no segment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from services.asr.vocabulary import Word

Interval = tuple[float, float]
"""Begin and end in seconds."""
_MARKS = (".", "!", "?", "\u3002", "\uff01", "\uff1f", "\u2026", ",", ";", ":")
_LONGEST_MEDIAN = 0.7  # seconds; what is called long is twice the median
_TOLERANCE = 0.2  # seconds that time stamps and the detection of speech may differ
_EDGE = 0.1  # seconds around speech that are counted to it
_NEAR = 0.5  # seconds: words correct the time stamps of their segment by no more


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a segment is."""

    start: float
    end: float
    words: tuple[Word, ...]


def placed(start: float, end: float, words: Sequence[Word], speech: Sequence[Interval]) -> Placed | None:
    """Return the place of a segment whose time stamps say `start` and `end`; None where nobody speaks there.

    `speech` are spans of speech in order; empty: not known.
    """
    if speech:
        heard = [(first, last) for first, last in speech if first < end + _TOLERANCE and last > start - _TOLERANCE]
        if not heard:
            return None
        start = min(max(start, heard[0][0] - _TOLERANCE), end)
        end = max(start, min(end, heard[-1][1] + _TOLERANCE))
        words = [_spoken(word, heard) for word in words]
    timed = trimmed(words)
    if timed:
        start = timed[0].start if abs(timed[0].start - start) < _NEAR else start
        end = timed[-1].end if abs(timed[-1].end - end) < _NEAR else end
    return Placed(start, max(start, end), within(timed, start, max(start, end)))


def trimmed(words: Sequence[Word]) -> list[Word]:
    """Return words without the pauses that were counted to them.

    Where somebody pauses, the word before or after has all of it: before it where a mark ends the word, after it where
    a sentence or the window begins.
    """
    durations = [word.end - word.start for word in words if word.end > word.start]
    if not durations:
        return list(words)
    longest = 2 * min(_LONGEST_MEDIAN, median(durations))
    return [_shortened(word, place == 0 or _ends(words[place - 1]), longest) for place, word in enumerate(words)]


def within(words: Sequence[Word], start: float, end: float) -> tuple[Word, ...]:
    """Return words with times between `start` and `end`, none beginning before the one before it ends."""
    result: list[Word] = []
    for word in words:
        begin = min(max(word.start, start), end)
        start = min(max(word.end, begin), end)  # of the next one
        result.append(replace(word, start=begin, end=start))
    return tuple(result)


def _spoken(word: Word, speech: Sequence[Interval]) -> Word:
    """Return a word without a silence inside: the longer of its parts that are speech."""
    parts = [(max(first - _EDGE, word.start), min(last + _EDGE, word.end)) for first, last in speech]
    start, end = max(parts, key=lambda part: part[1] - part[0])
    return word if end <= start else replace(word, start=start, end=end)


def _ends(word: Word) -> bool:
    return word.text.endswith(_MARKS)


def _shortened(word: Word, begins: bool, longest: float) -> Word:
    if word.end - word.start > longest and _ends(word):
        return replace(word, end=word.start + longest)
    if word.end - word.start > longest and begins:
        return replace(word, start=word.end - longest)
    return word
