"""LocalAgreement-2: what two readings of growing audio agree on will stay. Knows words and their times, no audio.

Liu et al., 2020, arXiv:2005.11185; for Whisper: Machacek et al., 2023, arXiv:2307.14743.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.asr.vocabulary import Word

_UNSPOKEN = re.compile(r"[\W_]+")
_SENTENCE_END = re.compile("[.?!\u2026\u3002\uff1f\uff01]['\")\\]\u2019\u201d]*$")
_LONGEST_PHRASE = 12  # words
_LEAST_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Cut:
    """Where audio may be divided: `words` end before `time`, in seconds."""

    words: int
    time: float


class Agreement:
    """The words of one utterance: `settled` and forgotten by the reader, `committed`, and `pending`."""

    def __init__(self) -> None:
        self.settled: list[Word] = []
        """Words whose audio is not read again."""
        self.committed: list[Word] = []
        """Words that two readings agree on."""
        self.pending: list[Word] = []
        """The rest of the latest reading."""

    @property
    def words(self) -> list[Word]:
        """All words of the utterance as they stand."""
        return [*self.settled, *self.committed, *self.pending]

    @property
    def stability(self) -> float:
        """The share of the text, by characters, that will stay."""
        stable = sum(len(word.text) for word in (*self.settled, *self.committed))
        total = stable + sum(len(word.text) for word in self.pending)
        return stable / total if total else 0.0

    def update(self, words: Sequence[Word]) -> None:
        """Take a new reading of all audio that is not settled.

        Committed words keep their text and take the new times, as far as the reading still has them in their place.
        """
        done = _agreeing(self.committed, words)
        if done < len(self.committed):
            done = self._place(words)
        else:
            self.committed = [
                replace(new, text=old.text) for old, new in zip(self.committed, words[:done], strict=True)
            ]
        fresh = list(words[done:])
        agreed = _agreeing(self.pending, fresh)
        self.committed += fresh[:agreed]
        self.pending = fresh[agreed:]

    def settle(self, cut: Cut) -> None:
        """Put the first committed words away; their audio is not read again."""
        self.settled += self.committed[: cut.words]
        self.committed = self.committed[cut.words :]

    def _place(self, words: Sequence[Word]) -> int:
        """Return how many of `words` stand where the committed ones do: they begin before those end."""
        end = self.committed[-1].end
        return sum(1 for word in words if (word.start + word.end) / 2 < end)


def sentence_cut(words: Sequence[Word]) -> Cut | None:
    """Return the last place between two sentences, or None."""
    for index in range(len(words) - 1, 0, -1):
        if _SENTENCE_END.search(words[index - 1].text):
            return Cut(index, _between(words, index))
    return None


def word_cut(words: Sequence[Word]) -> Cut | None:
    """Return the place of the longest pause in the second half of `words`, or None where there is none."""
    if len(words) < 2:
        return None
    index = max(range((len(words) + 1) // 2, len(words)), key=lambda index: words[index].start - words[index - 1].end)
    return Cut(index, _between(words, index))


def without_repeats(words: Sequence[Word]) -> list[Word]:
    """Return `words` up to where they do nothing but repeat: a phrase said three times in a row to the end counts once.

    Whisper goes on like that where a window ends too early for it.
    """
    spoken = [_spoken(word) for word in words]
    for length in range(1, min(_LONGEST_PHRASE, len(words) // _LEAST_REPEATS) + 1):
        first = len(words)
        while first > length and spoken[first - 1] == spoken[first - 1 - length]:
            first -= 1
        if len(words) - first >= (_LEAST_REPEATS - 1) * length:
            return list(words[:first])
    return list(words)


def _agreeing(one: Sequence[Word], other: Sequence[Word]) -> int:
    agreed = 0
    for a, b in zip(one, other, strict=False):
        if _spoken(a) != _spoken(b):
            break
        agreed += 1
    return agreed


def _spoken(word: Word) -> str:
    return _UNSPOKEN.sub("", word.text).casefold()


def _between(words: Sequence[Word], index: int) -> float:
    return (words[index - 1].end + words[index].start) / 2
