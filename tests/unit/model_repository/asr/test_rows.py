"""What becomes of the tensors of a raw client before the engine sees them."""

import importlib
from typing import Any

import numpy as np
import pytest

rows = importlib.import_module("model_repository.asr.whisper_base.1.rows")
special_tokens = importlib.import_module("model_repository.asr.whisper_base.1.special_tokens")
SPECIAL = special_tokens.SpecialTokens(
    end_of_text=100, start=101, no_timestamps=110, languages=("<|en|>",), suppressed=(), vocabulary_size=1612
)
ENGLISH, TRANSCRIBE = 102, 106


def request(count: int = 1, **given: Any) -> dict[str, Any]:
    values = {"frames": 40, "beam_size": 1, "alternatives": 1, "max_new_tokens": 20, "temperature": 0.0}
    flags = {"word_times": 0, "detect_language": 0}
    columns = {name: np.full((count, 1), value) for name, value in {**values, **flags}.items()}
    prompt = np.tile([101, ENGLISH, TRANSCRIBE, -1], (count, 1))
    mel = np.zeros((count, 80, 50), dtype=np.float32)
    return {"mel": mel, "prompt": prompt, **columns} | {name: np.array(value) for name, value in given.items()}


def test_a_row_has_what_its_tensors_say() -> None:
    (row,) = rows.parse_rows(request(temperature=[[0.5]], word_times=[[1]]), SPECIAL)
    assert row.prompt == row.start == (101, ENGLISH, TRANSCRIBE)
    assert (row.frames, row.max_new_tokens, row.temperature) == (40, 20, 0.5)
    assert row.timestamps and row.word_times and not row.detect_language


def test_text_before_and_the_sign_against_time_stamps_are_no_start() -> None:
    (row,) = rows.parse_rows(request(prompt=[[109, 7, 101, ENGLISH, TRANSCRIBE, 110]]), SPECIAL)
    assert row.start == (101, ENGLISH, TRANSCRIBE) and not row.timestamps


def test_a_temperature_of_next_to_nothing_is_greedy() -> None:
    (row,) = rows.parse_rows(request(temperature=[[1e-30]]), SPECIAL)
    assert row.temperature == 0


def test_rows_with_the_same_options_are_computed_together() -> None:
    count = 5
    prompt = np.tile([101, ENGLISH, TRANSCRIBE, -1], (count, 1))
    prompt[1, 1] = ENGLISH + 1  # another language
    prompt[2, 3] = 110
    parsed = rows.parse_rows(
        request(count, prompt=prompt, beam_size=[[1], [1], [1], [2], [1]], word_times=[[0], [0], [0], [0], [1]]),
        SPECIAL,
    )
    together = [row.computed_with == parsed[0].computed_with for row in parsed]
    assert together == [True, True, False, False, True]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frames": [[0]]}, "frames: 0 is not between 1 and the 50 of mel"),
        ({"frames": [[51]]}, "frames: 51 is not between 1 and the 50 of mel"),
        ({"mel": np.zeros((1, 80, 0))}, "mel: 0 frames are not between 1 and 3000"),
        ({"mel": np.full((1, 80, 50), np.nan)}, "mel: values must be between -100 and 100"),
        ({"temperature": [[np.nan]]}, "temperature: values must be between 0 and 1"),
        ({"prompt": [[101, 1612]]}, "prompt: values must be between 0 and 1611"),
        ({"prompt": [[101, -1, ENGLISH]]}, "prompt: -1 is only for padding at the end"),
        ({"prompt": [[ENGLISH, 7]]}, "prompt: token 101, <|startoftranscript|>, is missing"),
        ({"prompt": [[101, ENGLISH, 7]]}, "prompt: only language, task and <|notimestamps|> may follow token 101"),
        ({"max_new_tokens": [[446]]}, "max_new_tokens: 446 and 3 of the prompt are more than the 448 that fit"),
        ({"max_new_tokens": [[445]], "word_times": [[1]]}, "too many for word_times; at most 443"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(rows.InvalidRequestError) as refusal:
        rows.parse_rows(request(**given), SPECIAL)
    assert message in str(refusal.value)


def test_a_language_is_detected_without_a_prompt() -> None:
    (row,) = rows.parse_rows(request(prompt=[[-1, -1]], detect_language=[[1]]), SPECIAL)
    assert row.prompt == row.start == ()
