"""Whisper's vocabulary: prompts, texts, the segments that its time stamps make, words. No tensors, no audio."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.common.languages import NAMES

Floats = NDArray[np.float32]
TIME_STEP = 0.02
"""Seconds between two time stamps."""
MOST_BEFORE = 223
"""Tokens of text before the transcript: half of the decoder's positions, less the one that says so."""
# Thai, Lao, Myanmar, Khmer, kana, Han: written without spaces; after them and their punctuation anything may begin.
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_AFTER_SPACELESS = re.compile(f"{_SPACELESS.pattern}|[\u3000-\u303f\uff00-\uff65]")
_OPENING = frozenset("\"'“¿([{")


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its punctuation; times in seconds."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Span:
    """What stands between two time stamps; times in seconds."""

    start: float
    end: float
    ids: list[int]
    """Text tokens."""


class Vocabulary:
    """The vocabulary of one model."""

    def __init__(self, path: Path, multilingual: bool) -> None:
        """`path` is a Hugging Face tokenizer.json."""
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # a caller's text that spells a special token stays text
        self.multilingual = multilingual
        self._end, self._start = self._id("<|endoftext|>"), self._id("<|startoftranscript|>")
        self._first_time = self._id("<|notimestamps|>") + 1
        tokens = {code: self._tokenizer.token_to_id(f"<|{code}|>") for code in NAMES} if multilingual else {}
        self._languages = {code: token for code, token in tokens.items() if token is not None}

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of what the model understands, in the order of its language tokens."""
        return tuple(sorted(self._languages, key=self._languages.__getitem__)) if self.multilingual else ("en",)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without any special one. Lets other threads run meanwhile."""
        return list(self._tokenizer.encode_batch([text], add_special_tokens=False)[0].ids)

    def prompt(
        self,
        language: str,
        *,
        translate: bool = False,
        before: Sequence[int] = (),
        hot_words: Sequence[int] = (),
        timestamps: bool = True,
    ) -> list[int]:
        """Return the ids that decoding starts from.

        Hot words come first, then the text before; both together have 223 tokens, of which hot words may have half and
        what the text leaves. Of the text its end counts.
        """
        before = before[-(MOST_BEFORE - min(len(hot_words), MOST_BEFORE // 2)) :]
        context = [*hot_words[: MOST_BEFORE - len(before)], *before]
        ids = [self._id("<|startofprev|>"), *context] if context else []
        ids.append(self._start)
        if self.multilingual:
            ids += [self._languages[language], self._id("<|translate|>" if translate else "<|transcribe|>")]
        return ids if timestamps else [*ids, self._first_time - 1]

    def text(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`, special tokens and time stamps left out, as it stands in a longer one."""
        return str(self._tokenizer.decode(self.text_ids(ids)))

    def text_ids(self, ids: Iterable[int]) -> list[int]:
        """Return `ids` without special tokens and time stamps."""
        return [number for number in ids if number < self._end]

    def spans(self, ids: Sequence[int], seconds: float) -> list[Span]:
        """Return what the time stamps in `ids` divide a window of that length into; empty ones are left out."""
        spans: list[Span] = []
        start, text = 0.0, list[int]()
        for number in ids:
            if number < self._end:
                text.append(number)
            elif number >= self._first_time:
                time = min((number - self._first_time) * TIME_STEP, seconds)
                if text:
                    spans.append(Span(start, max(start, time), text))
                    text = []
                start = max(start, time)
        return [*spans, Span(start, max(start, seconds), text)] if text else spans

    def words(self, ids: Sequence[int], times: Floats, probabilities: Floats) -> list[Word]:
        """Return the words of n text tokens, which begin at times [n + 1] (the last one ends there).

        Times never go back. A word begins at a space; where a script has none, at every character.
        """
        times = np.maximum.accumulate(times)
        words: list[Word] = []
        for text, first, last in _joined(self._characters(ids)):
            start, end = float(times[first]), float(times[last])
            words.append(Word(text, start, end, float(np.mean(probabilities[first:last]))))
        return words

    def _characters(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """Return runs of tokens that make whole characters: text, first token, token after the last."""
        runs: list[tuple[str, int, int]] = []
        first = 0
        for last in range(1, len(ids) + 1):
            text = self._tokenizer.decode(ids[first:last])
            if "\ufffd" not in text or last == len(ids):
                runs.append((text, first, last))
                first = last
        return runs

    def _id(self, token: str) -> int:
        return int(self._tokenizer.token_to_id(token))


def _joined(runs: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Return words: text without the space before it, first token, token after the last."""
    words: list[tuple[str, int, int]] = []
    for text, first, last in runs:
        if words and not _begins_word(words[-1][0], text):
            before, begin, _ = words[-1]
            words[-1] = (before + text, begin, last)
        else:
            words.append((text, first, last))
    return [(text.strip(), first, last) for text, first, last in words if text.strip()]


def _begins_word(before: str, text: str) -> bool:
    if before.strip() in _OPENING or not before.strip():
        return False
    if text.startswith(" "):
        return True
    return bool(_SPACELESS.match(text)) or (bool(_AFTER_SPACELESS.match(before[-1])) and text[:1].isalnum())


def text_of(words: Iterable[Word]) -> str:
    """Return the text that words make, with spaces where their script has them."""
    text = ""
    for word in words:
        spaceless = not text or (_SPACELESS.match(word.text) and _AFTER_SPACELESS.match(text[-1]))
        text += word.text if spaceless else f" {word.text}"
    return text
