"""Two plain graphs and a loop in NumPy read what CTranslate2 reads with the same weights in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.unit.model_repository.asr.conftest import part
from tests.unit.model_repository.asr.random_whisper import ENGLISH, NO_TIMES, START, TRANSCRIBE

TIMED = (START, ENGLISH, TRANSCRIBE)
PLAIN = (*TIMED, NO_TIMES)
AFTER_TEXT = (50361, 11, 12, 13, 14, 15, *TIMED)


def sound(windows: int = 1, frames: int = 200) -> Any:
    return np.random.default_rng(frames).normal(0, 1, (windows, 80, frames)).astype(np.float32)


def everything(_row: int) -> bool:
    return True


def assert_alike(one: Any, other: Any) -> None:
    assert one.texts == other.texts
    assert one.scores == pytest.approx(other.scores, abs=1e-3)
    assert one.no_speech == pytest.approx(other.no_speech, abs=1e-4)
    assert one.token_times == pytest.approx(other.token_times, abs=0.05)
    assert one.token_probabilities == pytest.approx(other.token_probabilities, abs=1e-3)
    assert one.languages == pytest.approx(other.languages, abs=1e-4)


@pytest.mark.parametrize("prompt", [TIMED, PLAIN, AFTER_TEXT, (START,)], ids=["timed", "plain", "after text", "bare"])
@pytest.mark.parametrize(
    "options",
    [
        {"word_times": True},
        {"beam_size": 5},
        {"beam_size": 2, "alternatives": 4, "word_times": True},
        {"max_new_tokens": 1},
        {"max_new_tokens": 90},
    ],
    ids=["greedy", "beam", "alternatives", "one token", "many tokens"],
)
def test_a_window_is_read_as_ctranslate2_reads_it(
    original: Any, on_onnxruntime: Any, row: Callable[..., Any], prompt: tuple[int, ...], options: dict[str, Any]
) -> None:
    rows = [row(prompt, 150, **options)]
    (expected,) = original.read(sound(), rows, everything)
    (found,) = on_onnxruntime.read(sound(), rows, everything)
    assert_alike(found, expected)
    assert found.texts[0]


def test_rows_of_all_kinds_share_a_batch(original: Any, on_onnxruntime: Any, row: Callable[..., Any]) -> None:
    rows = [
        row(TIMED, word_times=True),
        row(TIMED),
        row(PLAIN, beam_size=3, alternatives=2),
        row((START,), detect_language=True),
        row((START, ENGLISH + 5, TRANSCRIBE), word_times=True),
        row(AFTER_TEXT),
        row(TIMED),
    ]
    windows = sound(len(rows))
    together = on_onnxruntime.read(windows, rows, everything)
    for number, one in enumerate(rows):
        (alone,) = on_onnxruntime.read(windows[number : number + 1], [one], everything)
        assert_alike(together[number], alone)
        if not one.detect_language:
            (expected,) = original.read(windows[number : number + 1], [one], everything)
            assert_alike(alone, expected)


def test_languages_have_probabilities(on_onnxruntime: Any, row: Callable[..., Any]) -> None:
    (found,) = on_onnxruntime.read(sound(), [row((START,), detect_language=True)], everything)
    assert len(found.languages) == 99 and sum(found.languages) == pytest.approx(1) and not found.texts


@pytest.mark.parametrize("frames", [1, 2, 9, 11, 161, 3000])
def test_every_length_is_read(original: Any, on_onnxruntime: Any, row: Callable[..., Any], frames: int) -> None:
    rows = [row(TIMED, frames, word_times=True)]
    (expected,) = original.read(sound(1, frames), rows, everything)
    (found,) = on_onnxruntime.read(sound(1, frames), rows, everything)
    assert_alike(found, expected)


def test_samples_have_the_probabilities_of_their_temperature(on_onnxruntime: Any, row: Callable[..., Any]) -> None:
    rows = [row(PLAIN, alternatives=5, temperature=temperature) for temperature in (0.001, 1.0)]
    cold, warm = on_onnxruntime.read(np.repeat(sound(), 2, axis=0), rows, everything)
    (greedy,) = on_onnxruntime.read(sound(), [row(PLAIN)], everything)
    assert cold.texts == [greedy.texts[0]] * 5
    assert len({tuple(text) for text in warm.texts}) == 5 and warm.scores == sorted(warm.scores, reverse=True)


def test_nobody_waits_for_a_cancelled_row(on_onnxruntime: Any, row: Callable[..., Any]) -> None:
    readings = on_onnxruntime.read(sound(2), [row(TIMED), row(TIMED)], lambda number: number == 1)
    assert not readings[0].texts and readings[1].texts


def test_tokens_begin_where_the_attention_goes_to() -> None:
    """Five tokens of which the first is not placed, each with its own stretch of 40 positions."""
    stretches = [(0, 8), (8, 14), (14, 30), (30, 40)]
    scores = np.zeros((3, 6, 40), np.float32)
    for token, (begin, end) in enumerate(stretches, start=1):
        scores[:, token, begin:end] = 9.0
    assert part("alignment").begins(scores, 1).tolist() == [begin for begin, _ in stretches]
