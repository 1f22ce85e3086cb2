"""Which tokens may come next."""

from typing import Any

import numpy as np
import pytest

from tests.unit.model_repository.asr.conftest import part
from tests.unit.model_repository.asr.random_whisper import END, NO_TIMES, VOCABULARY

TIME = NO_TIMES + 1
WORD, BLANK, SIGN = 1000, 220, 7


def allowed(special: Any, text: list[int], timestamps: bool = True, **likely: float) -> np.ndarray[Any, Any]:
    """The tokens that may come after a text, where all are as likely but those named by "t<id>"."""
    logits = np.zeros((1, VOCABULARY), np.float32)
    for name, value in likely.items():
        logits[0, int(name[1:])] = value
    rules = part("logit_rules").LogitRules(special, timestamps)
    found = rules.log_probabilities(logits, np.array([text], np.int32).reshape(1, -1))[0]
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-3)
    return np.flatnonzero(np.isfinite(found))


def test_a_text_begins_with_a_time_stamp_of_up_to_a_second(special: Any) -> None:
    assert allowed(special, []).tolist() == list(range(TIME, TIME + 51))


def test_a_text_without_time_stamps_begins_with_no_blank_and_no_end(special: Any) -> None:
    found = set(allowed(special, [], timestamps=False))
    assert WORD in found and not found & {BLANK, END, SIGN}
    assert {BLANK, END, WORD} <= set(allowed(special, [WORD], timestamps=False))


def test_a_segment_ends_after_it_began(special: Any) -> None:
    found = allowed(special, [TIME + 5, WORD])
    assert found[found >= TIME].min() == TIME + 6
    found = allowed(special, [TIME + 5, WORD, TIME + 9, TIME + 9, WORD])
    assert found[found >= TIME].min() == TIME + 10


def test_after_the_end_of_a_segment_comes_the_next_ones_begin_or_the_end(special: Any) -> None:
    found = allowed(special, [TIME + 5, WORD, TIME + 9], **{f"t{END}": 9.0})
    assert END in found and found[found >= TIME].min() == TIME + 9 and WORD not in found


def test_two_time_stamps_are_followed_by_a_word(special: Any) -> None:
    found = allowed(special, [TIME + 5, WORD, TIME + 9, TIME + 9])
    assert WORD in found and found.max() < TIME


def test_a_time_stamp_comes_where_all_together_are_likelier_than_a_word(special: Any) -> None:
    assert allowed(special, [TIME, WORD]).min() > TIME
    assert WORD in allowed(special, [TIME, WORD], **{f"t{WORD}": 9.0})
