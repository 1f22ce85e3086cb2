"""Readings for live streams: windows of samples to words and texts, by one model, in one language."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from services.asr.live.track import Floats
from services.asr.live.utterance import Text
from services.asr.model import FRAMES_PER_SECOND
from services.asr.options import Options
from services.asr.passage import Passage, Segment, compression_ratio
from services.asr.recognition import Recognition, Turn
from services.asr.sound.audio import SAMPLE_RATE
from services.asr.vocabulary import Word, text_of
from services.common.load import Load

_LANGUAGE_SAMPLES = 2 * SAMPLE_RATE  # that are enough to tell the language for good


class LiveReader:
    """What all channels of one stream read with."""

    def __init__(self, recognition: Recognition, options: Options, load: Load, priority: int) -> None:
        """`priority` is the call's; final readings go before, so that they wait for nobody's interims and files."""
        self._recognition, self._load = recognition, load
        self._options = replace(options, word_timestamps=True)
        self._soon, self._first = Turn(priority), Turn(priority - 1)
        self._detecting = asyncio.Lock()
        self.language = options.language or ""
        """ISO 639-1 code, empty while it is not known."""
        self.language_probability = 1.0 if options.language else 0.0
        self.seconds = 0.0
        """Time spent on readings."""

    async def interim(self, samples: Floats, before: Sequence[Word]) -> list[Word]:
        """Return the words of a window, quickly. Raises ServiceError."""
        with self._timed():
            options = await self._in_language(samples, self._soon)
            context = self._tokens(before)
            return list((await self._recognition.interim(samples, options, self._soon, context)).words)

    async def final(self, samples: Floats, before: Sequence[Word]) -> Text:
        """Return the text of a window, with care. Raises ServiceError."""
        cost, began = len(samples) * FRAMES_PER_SECOND / SAMPLE_RATE, time.monotonic()
        self._load.offered(cost)
        with self._timed():
            options = await self._in_language(samples, self._first)
            context = self._tokens(before)
            text = _text(await self._recognition.read(samples, options, self._first, before=context))
        self._load.ended(cost, time.monotonic() - began, completed=True, crowded=False)
        return text

    def joined(self, words: Sequence[Word], rest: Text) -> Text:
        """Return the text of words and of what comes after them."""
        if not words:
            return rest
        text = text_of([*words, Word(rest.text, 0.0, 0.0, 0.0)] if rest.text else words)
        ids = tuple(self._recognition.encode(f" {text}"))
        logprob = sum(math.log(max(word.confidence, 1e-6)) for word in words) / len(words)
        if rest.token_ids:
            weight = len(rest.token_ids) / len(ids)
            logprob = weight * rest.average_logprob + (1 - weight) * logprob
        return replace(
            rest,
            text=text,
            words=(*words, *rest.words),
            token_ids=ids,
            average_logprob=logprob,
            compression_ratio=compression_ratio(text),
            alternatives=tuple(
                (text_of([*words, Word(other, 0.0, 0.0, 0.0)]), confidence) for other, confidence in rest.alternatives
            ),
        )

    def _tokens(self, before: Sequence[Word]) -> list[int]:
        return self._recognition.encode(f" {text_of(before)}") if before else []

    async def _in_language(self, samples: Floats, turn: Turn) -> Options:
        """Return the options with the language of the stream, which its first words decide."""
        if not self.language:
            async with self._detecting:
                if not self.language:
                    code, probability = await self._recognition.language_of(samples, turn=turn)
                    if len(samples) < _LANGUAGE_SAMPLES:
                        return replace(self._options, language=code)
                    self.language, self.language_probability = code, probability
        return replace(self._options, language=self.language)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - began


def _text(passage: Passage) -> Text:
    segments = passage.segments
    if not segments:
        return Text()
    return Text(
        text=passage.text,
        words=tuple(word for segment in segments for word in segment.words),
        token_ids=tuple(number for segment in segments for number in segment.ids),
        temperature=segments[0].temperature,
        average_logprob=segments[0].average_logprob,
        compression_ratio=compression_ratio(passage.text),
        no_speech_probability=segments[0].no_speech_probability,
        alternatives=_alternatives(segments),
    )


def _alternatives(segments: Sequence[Segment]) -> tuple[tuple[str, float], ...]:
    return tuple((other.text.strip(), other.confidence) for other in segments[0].alternatives)
