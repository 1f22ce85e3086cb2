"""One model at work on windows of up to 30 s: samples in, passages out. Knows no files and no streams.

A reading that looks wrong is done again at higher temperatures, as Whisper's authors do it (Radford et al., 2022,
arXiv:2212.04356, section 4.5), and what still looks invented is dropped.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.asr import guard
from services.asr.instruments import Instruments
from services.asr.mel import log_mel
from services.asr.model import FRAMES_PER_SECOND, MOST_NEW_TOKENS, Reading, Window
from services.asr.options import MOST_ALTERNATIVES, Options, ServedModel
from services.asr.passage import Alternative, Interim, Passage, Segment, compression_ratio
from services.asr.sound.audio import SAMPLE_RATE
from services.asr.vocabulary import Span, Vocabulary, Word
from services.asr.word_times import Interval, placed, trimmed, within
from services.common.batcher import Batcher

Floats = NDArray[np.float32]
TAIL_SECONDS, LEAST_SECONDS = 1.0, 10.0
"""Silence behind the sound, and how long both are at least: a window that ends with the last word makes Whisper repeat
itself, a shorter one as well. Measured; the full 30 s are no better and cost three times as much."""
MOST_SECONDS = 30.0 - TAIL_SECONDS
"""Sound of a window."""
LADDER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_LEAST_ROOM, _ROOM_PER_SECOND, _ROOM_STEP = 32, 15, 64  # tokens
_SAMPLES_OF_LADDER = 5  # texts of which the likeliest is taken where the temperature is above 0


@dataclass(frozen=True, slots=True)
class Turn:
    """When a window is read: a lower priority number first, then who has fewer windows waiting before."""

    priority: int = 0
    waiting: int = 0


FIRST = Turn()


@dataclass(frozen=True, slots=True)
class _Sound:
    mel: Floats
    frames: int
    seconds: float
    speech: Sequence[Interval]


class Recognition:
    """One model. Readings of any number of callers run at the same time and share batches."""

    def __init__(
        self,
        model: ServedModel,
        batcher: Batcher[Window, Reading],
        vocabulary: Vocabulary,
        beam_size: int,
        instruments: Instruments,
    ) -> None:
        """`beam_size` is that of careful readings."""
        self.model, self._batcher, self._vocabulary = model, batcher, vocabulary
        self._beam_size, self._instruments = beam_size, instruments
        self._encoded = lru_cache(maxsize=64)(lambda text: tuple(vocabulary.encode(text)))

    async def read(
        self,
        samples: Floats,
        options: Options,
        turn: Turn = FIRST,
        *,
        before: Sequence[int] = (),
        speech: Sequence[Interval] = (),
    ) -> Passage:
        """Return what is said in `samples` [n], at 16 kHz and up to MOST_SECONDS, with care.

        `before` are tokens of the text that comes right before. `speech` says where there is some, in seconds, where
        that is known: what is read elsewhere is left out. Raises ServiceError.
        """
        sound = await _sound(samples, speech)
        language = options.language or (await self._language([sound], turn))[0]
        prompt = self._prompt(options, language, before, timestamps=options.alternatives == 1)
        reading, temperature = await self._careful(sound, prompt, options, turn)
        if reading is None:
            return Passage((), language)
        return Passage(tuple(self._segments(reading, sound, options, temperature)), language)

    async def interim(
        self, samples: Floats, options: Options, turn: Turn = FIRST, before: Sequence[int] = ()
    ) -> Interim:
        """Return the words of `samples` read once, greedily. Raises ServiceError."""
        sound = await _sound(samples)
        language = options.language or (await self._language([sound], turn))[0]
        prompt = self._prompt(options, language, before, timestamps=False)
        window = Window(sound.mel, sound.frames, prompt, max_new_tokens=_room(prompt, sound), word_times=True)
        reading = await self._submit(window, turn)
        ids = self._vocabulary.text_ids(reading.texts[0])
        if guard.silent(reading):
            ids = []
        words = within(trimmed(self._words(ids, reading, 0)), 0.0, sound.seconds)
        return Interim(tuple(ids), words, reading.scores[0], reading.no_speech)

    async def language_of(self, *windows: Floats, turn: Turn = FIRST) -> tuple[str, float]:
        """Return the ISO 639-1 code of the language in windows [n], taken together, and its probability."""
        return await self._language([await _sound(samples) for samples in windows], turn)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, for `before`."""
        return self._vocabulary.encode(text)

    async def _language(self, sounds: Sequence[_Sound], turn: Turn) -> tuple[str, float]:
        codes = self._vocabulary.languages
        if len(codes) == 1:
            return codes[0], 1.0
        prompt = self._vocabulary.prompt(codes[0])[:1]
        windows = [Window(sound.mel, sound.frames, prompt, detect_language=True) for sound in sounds]
        lengths = [window.mel.shape[1] for window in windows]
        readings = await self._batcher.submit(windows, lengths, turn.priority, turn.waiting)
        weights = [sound.seconds for sound in sounds]
        shares = np.average([reading.languages for reading in readings], axis=0, weights=weights)
        best = int(np.argmax(shares))
        return codes[best], float(shares[best])

    async def _careful(
        self, sound: _Sound, prompt: list[int], options: Options, turn: Turn
    ) -> tuple[Reading | None, float]:
        """Return the reading to believe and its temperature; None where there is none."""
        ladder = LADDER if options.temperature is None else (options.temperature,)
        tried: list[tuple[Reading, float]] = []
        for temperature in ladder:
            reading = await self._submit(self._window(sound, prompt, options, temperature), turn)
            if guard.silent(reading):
                self._instruments.dropped(self.model.id, "no_speech")
                return None, temperature
            fault = guard.fault(self._audible(reading, sound), reading.scores[0])
            tried.append((reading, temperature))
            if fault is None or options.temperature is not None:
                return reading, temperature
            if temperature < ladder[-1]:
                self._instruments.fell_back(self.model.id, fault)
        reading, temperature = max(tried, key=lambda pair: self._trust(pair[0], sound))
        if guard.invented(self._audible(reading, sound), reading):
            self._instruments.dropped(self.model.id, "invented")
            return None, temperature
        return reading, temperature

    def _trust(self, reading: Reading, sound: _Sound) -> tuple[bool, float]:
        return not guard.repetitive(self._audible(reading, sound)), reading.scores[0]

    def _audible(self, reading: Reading, sound: _Sound) -> str:
        """Return the best text without what begins when the sound is over, which is left out later anyway."""
        spans = self._vocabulary.spans(reading.texts[0], sound.seconds)
        return self._vocabulary.text(number for span in spans if _begins_in(span, sound) for number in span.ids)

    def _window(self, sound: _Sound, prompt: list[int], options: Options, temperature: float) -> Window:
        wanted = min(MOST_ALTERNATIVES, options.alternatives + 2) if options.alternatives > 1 else 1
        return Window(
            sound.mel,
            sound.frames,
            prompt,
            beam_size=self._beam_size if temperature == 0 else 1,
            alternatives=wanted if temperature == 0 else max(wanted, _SAMPLES_OF_LADDER),
            temperature=temperature,
            max_new_tokens=_room(prompt, sound),
            word_times=options.word_timestamps,
        )

    async def _submit(self, window: Window, turn: Turn) -> Reading:
        lengths = [window.mel.shape[1]]
        (reading,) = await self._batcher.submit([window], lengths, turn.priority, turn.waiting)
        return reading

    def _prompt(self, options: Options, language: str, before: Sequence[int], timestamps: bool) -> list[int]:
        hot_words = self._encoded(" " + ", ".join(options.hot_words)) if options.hot_words else ()
        said = self._encoded(" " + options.prompt.strip()) if options.prompt.strip() else ()
        return self._vocabulary.prompt(
            language,
            translate=options.translate,
            before=[*said, *before],
            hot_words=hot_words,
            timestamps=timestamps,
        )

    def _segments(self, reading: Reading, sound: _Sound, options: Options, temperature: float) -> list[Segment]:
        """Return the segments of a reading, those left out that begin when the sound is over."""
        others = self._alternatives(reading, options.alternatives)
        segments, position, earliest = list[Segment](), 0, 0.0
        for span in self._vocabulary.spans(reading.texts[0], sound.seconds):
            text = self._vocabulary.text(span.ids)
            words = self._words(span.ids, reading, position) if options.word_timestamps else []
            position += len(span.ids)
            times = placed(span.start, span.end, words, sound.speech)
            if not guard.spoken(text) or times is None or not _begins_in(span, sound):
                continue
            start, earliest = max(times.start, earliest), max(times.end, earliest)
            segments.append(
                Segment(
                    start=start,
                    end=earliest,
                    text=text,
                    ids=tuple(span.ids),
                    words=within(times.words, start, earliest),
                    temperature=temperature,
                    average_logprob=reading.scores[0],
                    compression_ratio=compression_ratio(text),
                    no_speech_probability=reading.no_speech,
                    alternatives=others,
                )
            )
        return segments

    def _words(self, ids: Sequence[int], reading: Reading, position: int) -> list[Word]:
        """Return the words of text tokens that begin at a position among those of the reading's best text."""
        last = position + len(ids)
        times, probabilities = reading.token_times, reading.token_probabilities
        if len(times) <= last or len(probabilities) < last:
            return []
        return self._vocabulary.words(ids, times[position : last + 1], probabilities[position:last])

    def _alternatives(self, reading: Reading, wanted: int) -> tuple[Alternative, ...]:
        """Return texts that differ from the best and from each other by more than their letters' case and signs."""
        seen = {_bare(self._vocabulary.text(reading.texts[0]))}
        found: list[Alternative] = []
        for ids, score in zip(reading.texts[1:], reading.scores[1:], strict=False):
            text = self._vocabulary.text(ids)
            if (bare := _bare(text)) and bare not in seen:
                seen.add(bare)
                found.append(Alternative(text, math.exp(min(0.0, score))))
        return tuple(found[: wanted - 1])


async def _sound(samples: Floats, speech: Sequence[Interval] = ()) -> _Sound:
    return await asyncio.to_thread(_padded, samples, speech)


def _padded(samples: Floats, speech: Sequence[Interval]) -> _Sound:
    seconds = len(samples) / SAMPLE_RATE
    length = max(seconds + TAIL_SECONDS, LEAST_SECONDS)
    silence = np.zeros(math.ceil(length * SAMPLE_RATE) - len(samples), np.float32)
    mel = log_mel(np.concatenate([samples, silence]))
    return _Sound(mel, max(1, math.ceil(seconds * FRAMES_PER_SECOND)), seconds, speech)


def _room(prompt: Sequence[int], sound: _Sound) -> int:
    """Return how many tokens a text may have: twice what Whisper has for a window of 30 s, by the length of this one.

    A text that goes on and on is over sooner. The number is a round one, because the engine decodes together only
    what may have as many tokens.
    """
    most = min(MOST_NEW_TOKENS // 2, MOST_NEW_TOKENS - len(prompt))
    wanted = _LEAST_ROOM + _ROOM_PER_SECOND * sound.seconds
    return min(most, math.ceil(wanted / _ROOM_STEP) * _ROOM_STEP)


def _begins_in(span: Span, sound: _Sound) -> bool:
    return span.start < max(sound.seconds - guard.LATEST, guard.LATEST)


def _bare(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
