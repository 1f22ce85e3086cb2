import dataclasses
from pathlib import Path

import numpy as np
import pytest

from services.asr.selftest import SelfTest

TIMES = np.array([0.0, 1.0, 2.0], dtype=np.float32)
ENGLISH, GERMAN = np.array([0.9, 0.1], dtype=np.float32), np.array([0.1, 0.9], dtype=np.float32)


@pytest.fixture
def selftest() -> SelfTest:
    mel = np.zeros((80, 20), dtype=np.float32)
    return SelfTest(mel, 15, prompt=[1, 2], tokens=[5, 6, 7, 8, 9], score=-0.3, end=2.0, language=0)


def test_it_is_read_as_written(selftest: SelfTest, tmp_path: Path) -> None:
    selftest.write(tmp_path / "selftest.npz")
    again = SelfTest.read(tmp_path / "selftest.npz")
    assert (again.mel == selftest.mel).all()
    assert dataclasses.replace(again, mel=selftest.mel) == selftest


@pytest.mark.parametrize("content", [b"", b"text"])
def test_anything_else_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "selftest.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"not an \.npz archive"):
        SelfTest.read(tmp_path / "selftest.npz")


def test_nothing_to_read_is_none(selftest: SelfTest, tmp_path: Path) -> None:
    dataclasses.replace(selftest, tokens=[]).write(tmp_path / "selftest.npz")
    with pytest.raises(ValueError, match="empty"):
        SelfTest.read(tmp_path / "selftest.npz")


def test_the_same_is_no_fault(selftest: SelfTest) -> None:
    assert selftest.fault([5, 6, 7, 8, 9], -0.3, TIMES, ENGLISH) is None
    assert selftest.fault([5, 6, 7, 8, 1], -0.4, TIMES + 0.1, ENGLISH) is None  # another processor


def test_a_model_of_english_only_has_no_language(selftest: SelfTest) -> None:
    english = dataclasses.replace(selftest, language=-1)
    assert english.fault([5, 6, 7, 8, 9], -0.3, TIMES, np.zeros(0, dtype=np.float32)) is None
    assert english.fault([5, 6, 7, 8, 9], -0.3, TIMES, ENGLISH) == "language 0, expected -1"


def test_what_differs_is_told(selftest: SelfTest) -> None:
    tokens = selftest.tokens
    assert selftest.fault([5, 1, 2, 3, 4], -0.3, TIMES, ENGLISH) == "20% of the tokens agree"
    assert "the score is -0.90" in str(selftest.fault(tokens, -0.9, TIMES, ENGLISH))
    assert "the score is nan" in str(selftest.fault(tokens, float("nan"), TIMES, ENGLISH))
    assert "expected an end at 2.00 s" in str(selftest.fault(tokens, -0.3, TIMES * 2, ENGLISH))
    assert "expected an end" in str(selftest.fault(tokens, -0.3, TIMES[:0], ENGLISH))
    assert selftest.fault(tokens, -0.3, TIMES, GERMAN) == "language 1, expected 0"
