"""The gate of a language model: what is counted, and what it comes to."""

import math

import numpy as np
import pytest

from tools.engines.language import metrics, texts
from tools.export.llm.evaluation import Sums

LIKELY = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.46, 0.44], [0.2, 0.2, 0.6]], dtype=np.float32))


def test_the_same_loses_nothing() -> None:
    sums = Sums()
    sums.add([0, 1, 2], True, LIKELY, LIKELY)
    assert (sums.tokens, sums.positions, sums.agreeing, sums.same) == (2, 3, 3, 3)
    assert sums.nll == sums.reference_nll == pytest.approx(-math.log(0.3 * 0.44), rel=1e-5)
    assert all(metric.loss == 0 for metric in metrics(vars_of(sums)))


def test_another_best_token_counts_unless_both_are_as_good() -> None:
    other = np.log(np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]], dtype=np.float32))
    sums = Sums()
    sums.add([0, 1, 2], False, LIKELY, other)
    assert (sums.tokens, sums.nll) == (0, 0)
    assert (sums.positions, sums.agreeing, sums.same) == (3, 2, 1)


def test_a_worse_perplexity_is_a_loss() -> None:
    sums = {"nll": 210.0, "reference_nll": 200.0, "tokens": 100, "agreeing": 99, "same": 90, "positions": 100}
    likelihood, agreement, same = metrics(sums)
    assert likelihood.loss == pytest.approx(1 - math.exp(-0.1))
    assert (agreement.loss, same.loss) == (pytest.approx(0.01), pytest.approx(0.1))
    assert likelihood.decides and agreement.decides and not same.decides


def test_the_texts_are_real_and_always_the_same() -> None:
    found = texts()
    assert len(found) > 10
    assert all(len(text.split()) > 40 for text in found)


def vars_of(sums: Sums) -> dict[str, float]:
    return {name: getattr(sums, name) for name in Sums.__slots__}
