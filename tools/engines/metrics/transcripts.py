"""How far texts are from what was printed or said, on averages weighted by length."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer


def character_accuracy(expected: Sequence[str], found: Sequence[str]) -> float:
    """Return 1 less the character error rate, at least 0; expected texts must not be empty."""
    return max(0.0, 1.0 - float(jiwer.cer(list(expected), list(found))))


def word_accuracy(expected: Sequence[str], found: Sequence[str]) -> float:
    """Return 1 less the word error rate, at least 0; expected texts must not be empty and are normalised already."""
    return max(0.0, 1.0 - float(jiwer.wer(list(expected), list(found))))
