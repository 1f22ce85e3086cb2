from pathlib import Path

import numpy as np
import pytest

from tools.export.selftest import difference, largest_difference, read_selftest, write_selftest

LOGITS = np.linspace(-3, 3, 200, dtype=np.float32).reshape(2, 100)
CLASSES = np.arange(200, dtype=np.int32).reshape(2, 100)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_selftest(tmp_path / "t.npz", {"pixels": CLASSES}, {"logits": LOGITS, "classes": CLASSES})
    inputs, outputs = read_selftest(tmp_path / "t.npz")
    assert np.array_equal(inputs["pixels"], CLASSES) and list(outputs) == ["logits", "classes"]


@pytest.mark.parametrize("names", [["in:a"], ["out:a"], ["in:a", "out:b", "c"], []])
def test_arrays_with_other_names(tmp_path: Path, names: list[str]) -> None:
    np.savez(tmp_path / "t.npz", **dict.fromkeys(names, LOGITS))
    with pytest.raises(ValueError, match="arrays must be named"):
        read_selftest(tmp_path / "t.npz")


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **{"in:a": np.array([{}], dtype=object), "out:b": LOGITS})
    with pytest.raises(ValueError, match="not an"):
        read_selftest(tmp_path / "t.npz")


def test_equal_within_the_tolerance() -> None:
    expected = {"logits": LOGITS, "classes": CLASSES}
    assert difference(expected, {"logits": LOGITS + 5e-4, "classes": CLASSES}) is None
    assert largest_difference(expected, {"logits": LOGITS + 5e-4, "classes": CLASSES + 7}) == pytest.approx(
        5e-4, rel=0.01
    )


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        ({}, "logits is missing"),
        ({"logits": LOGITS[:1]}, r"logits is float32 \[1, 100\]"),
        ({"logits": LOGITS.astype(np.float64)}, "logits is float64"),
        ({"logits": np.full_like(LOGITS, np.nan)}, "agrees in 0"),
        ({"logits": LOGITS + (LOGITS[0, 0] == LOGITS)}, r"99\.50% of its values, required are 100%"),
    ],
)
def test_differences_are_told(actual: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(difference({"logits": LOGITS}, actual))
