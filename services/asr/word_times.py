"""Times of words as attention finds them, put right: a pause belongs to no word, and none leaves its segment."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from services.asr.vocabulary import Word

_MARKS = (".", "!", "?", "\u3002", "\uff01", "\uff1f", "\u2026", ",", ";", ":")
_LONGEST_MEDIAN = 0.7  # seconds; what is called long is twice the median


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


def _ends(word: Word) -> bool:
    return word.text.endswith(_MARKS)


def _shortened(word: Word, begins: bool, longest: float) -> Word:
    if word.end - word.start > longest and _ends(word):
        return replace(word, end=word.start + longest)
    if word.end - word.start > longest and begins:
        return replace(word, start=word.end - longest)
    return word


def within(words: Sequence[Word], start: float, end: float) -> tuple[Word, ...]:
    """Return words with times between `start` and `end`, none beginning before the one before it ends."""
    result: list[Word] = []
    for word in words:
        begin = min(max(word.start, start), end)
        start = min(max(word.end, begin), end)  # of the next one
        result.append(replace(word, start=begin, end=start))
    return tuple(result)
