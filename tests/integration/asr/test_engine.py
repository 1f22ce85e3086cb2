"""The recognisers in a real Triton: what is read in windows of speech."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor

from services.asr.model import MOST_FRAMES, Reading, Window
from services.asr.repository import SELFTEST, engine_files
from services.asr.selftest import SelfTest
from tests.integration.asr.engine_triton import BASE, TEXT, TINY, Engine, running_engines, speech, window_of

BOTH = pytest.mark.parametrize("model", [BASE, TINY])
SECONDS = 5.3


@pytest.fixture(scope="module")
async def engines(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Engine]]:
    async with running_engines(tmp_path_factory.mktemp("engines")) as running:
        yield running


@pytest.fixture(scope="module")
def base(engines: dict[str, Engine]) -> Engine:
    return engines[BASE]


@BOTH
async def test_the_self_test_is_reproduced(engines: dict[str, Engine], model: str) -> None:
    engine = engines[model]
    test = SelfTest.read(engine.files[SELFTEST])
    (reading,) = await engine.read(Window(test.mel, test.frames, test.prompt, word_times=True))
    (detected,) = await engine.read(Window(test.mel, test.frames, test.prompt, detect_language=True))
    assert test.fault(reading.texts[0], reading.scores[0], reading.token_times, detected.languages) is None


@BOTH
@pytest.mark.parametrize("timestamps", [True, False])
async def test_a_window_is_read_as_faster_whisper_reads_it(
    engines: dict[str, Engine], model: str, timestamps: bool, tmp_path: Path
) -> None:
    engine = engines[model]
    mel = FeatureExtractor()(speech())[:, :-1]
    padded = np.pad(mel, ((0, 0), (0, MOST_FRAMES - mel.shape[1])))  # as faster-whisper does
    window = Window(padded, mel.shape[1], engine.prompt(timestamps=timestamps), word_times=True)
    (reading,) = await engine.read(window)
    segment = await asyncio.to_thread(faster_whisper, engine, tmp_path, timestamps)
    assert engine.text(reading.texts[0]) == segment.text.strip()
    assert reading.scores == pytest.approx([segment.avg_logprob], abs=0.01)
    assert reading.no_speech == pytest.approx(segment.no_speech_prob, abs=0.01)
    ids = engine.vocabulary.text_ids(reading.texts[0])
    words = engine.vocabulary.words(ids, reading.token_times, reading.token_probabilities)
    assert "".join(word.text for word in words) == "".join(word.word.strip() for word in segment.words)
    # it joins words at hyphens, and moves the first and the last times afterwards
    theirs = np.array([word.end for word in segment.words[2:-2]])
    assert np.abs(theirs[:, None] - reading.token_times).min(axis=1).max() <= 0.05


def faster_whisper(engine: Engine, folder: Path, timestamps: bool) -> Any:
    """The first segment of the speech, which is all of it, by faster-whisper itself."""
    for name, path in engine_files(engine.files).items():
        (folder / name).symlink_to(path)
    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)
    segments, _ = model.transcribe(
        speech(),
        language="en",
        beam_size=1,
        temperature=0,
        word_timestamps=True,
        without_timestamps=not timestamps,
        condition_on_previous_text=False,
    )
    return next(iter(segments))


@BOTH
async def test_word_times_are_sane(engines: dict[str, Engine], model: str) -> None:
    engine = engines[model]
    (reading,) = await engine.read(window_of(speech(), engine.prompt(), word_times=True))
    ids = engine.vocabulary.text_ids(reading.texts[0])
    assert TEXT in engine.text(reading.texts[0])
    assert len(reading.token_times) == len(ids) + 1 and len(reading.token_probabilities) == len(ids)
    assert (np.diff(reading.token_times) >= 0).all()
    assert reading.token_times[0] >= 0 and reading.token_times[-1] == pytest.approx(SECONDS, abs=0.4)
    assert (reading.token_probabilities > 0).all() and (reading.token_probabilities <= 1).all()


async def test_what_is_not_asked_for_is_empty(base: Engine) -> None:
    (reading,) = await base.read(window_of(speech(), base.prompt()))
    assert len(reading.texts) == len(reading.scores) == 1
    assert not len(reading.token_times) and not len(reading.token_probabilities) and not len(reading.languages)


async def test_a_batch_is_read_as_each_window_alone(base: Engine) -> None:
    samples = speech()
    parts = [samples, np.roll(samples, 16_000), samples * 0.3, samples[::-1].copy()]
    windows = [window_of(part, base.prompt(timestamps=number % 2 == 0)) for number, part in enumerate(parts)]
    together = await base.read(*windows)
    for window, reading in zip(windows, together, strict=True):
        (alone,) = await base.read(window)
        assert_alike(alone, reading)


async def test_options_of_one_batch_are_each_rows_own(base: Engine) -> None:
    prompts = [base.prompt(), base.prompt(timestamps=False), base.prompt(before=base.vocabulary.encode(" Chapter 1."))]
    windows = [
        window_of(speech(), prompts[0], word_times=True),
        window_of(speech(), prompts[1], beam_size=5, alternatives=3),
        window_of(speech(), [], detect_language=True),
        window_of(speech(), prompts[2], max_new_tokens=3),
        window_of(speech(), prompts[1], alternatives=2, word_times=True),
        window_of(speech(), prompts[0], temperature=0.4, alternatives=5),
    ]
    together = await base.read(*windows)
    for window, reading in zip(windows[:5], together, strict=False):
        (alone,) = await base.read(window)
        assert_alike(alone, reading)
    assert [len(reading.texts) for reading in together] == [1, 3, 0, 1, 2, 5]
    assert len(together[3].texts[0]) == 3
    for reading in together:
        assert reading.scores == sorted(reading.scores, reverse=True)
    assert all("rather" in base.text(text) for text in together[5].texts)


def assert_alike(one: Reading, other: Reading) -> None:
    assert one.texts == other.texts
    assert one.scores == pytest.approx(other.scores, abs=0.01)
    assert one.no_speech == pytest.approx(other.no_speech, abs=0.01)
    assert one.token_times == pytest.approx(other.token_times, abs=0.05)
    assert one.token_probabilities == pytest.approx(other.token_probabilities, abs=0.02)
    assert one.languages == pytest.approx(other.languages, abs=0.01)


async def test_the_language_is_found(engines: dict[str, Engine]) -> None:
    base, tiny = engines[BASE], engines[TINY]
    (reading,) = await base.read(window_of(speech(), base.prompt(), detect_language=True))
    assert len(reading.languages) == len(base.vocabulary.languages)
    assert base.vocabulary.languages[int(reading.languages.argmax())] == "en"
    assert reading.languages.sum() == pytest.approx(1, abs=0.01)
    (reading,) = await tiny.read(window_of(speech(), tiny.prompt(), detect_language=True))
    assert reading.texts == [] and not len(reading.languages)


@BOTH
@pytest.mark.parametrize("frames", [1, 2, 9, 10, 11, 158, 159, 160, 161, 162, 163, 3000])
async def test_every_length_is_read(engines: dict[str, Engine], model: str, frames: int) -> None:
    engine = engines[model]
    whole = window_of(speech(), engine.prompt(), word_times=True, max_new_tokens=60)
    mel = np.resize(whole.mel, (80, frames)) if frames > whole.mel.shape[1] else whole.mel[:, :frames]
    (reading,) = await engine.read(dataclasses.replace(whole, mel=mel, frames=frames))
    ids = engine.vocabulary.text_ids(reading.texts[0])
    assert len(reading.token_times) == (len(ids) + 1 if ids else 0)
    assert (np.diff(reading.token_times) >= 0).all()


async def test_as_many_positions_as_mels_are_no_mels(base: Engine) -> None:
    """160 frames make 80 positions of the encoder; CTranslate2 would take its own output for sound."""
    readings = []
    for frames in (158, 160, 164):
        window = window_of(speech(), base.prompt())
        (reading,) = await base.read(dataclasses.replace(window, mel=window.mel[:, :frames], frames=frames))
        readings.append(reading)
    assert readings[1].no_speech == pytest.approx(readings[0].no_speech, abs=0.1)
    assert readings[1].no_speech == pytest.approx(readings[2].no_speech, abs=0.1)


async def test_padding_is_not_sound(base: Engine) -> None:
    """No word is found behind the frames that are sound."""
    window = window_of(speech(), base.prompt(), word_times=True)
    (reading,) = await base.read(dataclasses.replace(window, frames=300))
    assert reading.token_times.max() <= 3.0
