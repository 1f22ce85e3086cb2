import numpy as np
import pytest

from tests.unit.model_repository.llm.code import SCORER, code

scoring = code("scoring", SCORER)
VOCABULARY = 50


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3, (7, VOCABULARY)).astype(np.float32)


def softmax_logs(logits: np.ndarray) -> np.ndarray:
    values = logits.astype(np.float64)
    return values - np.log(np.exp(values).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_each_token_gets_its_own_probability_and_its_rivals(logits: np.ndarray, chunk: int) -> None:
    ids = np.array([3, 1, 4, 1, 5, 9, 2])
    scores = scoring.Scores(ids)
    for start in range(0, len(ids), chunk):
        following = ids[start + 1 : start + 1 + chunk]
        scores.add(start, *scoring.next_token_scores(logits[start : start + chunk], following))
    expected = softmax_logs(logits)
    assert scores.logprobs[0] == 0 and not scores.top_ids[0].any()
    for place in range(1, len(ids)):
        row = expected[place - 1]
        best = np.argsort(-row)[:20]
        assert scores.logprobs[place] == pytest.approx(row[ids[place]], abs=1e-4)
        assert scores.top_ids[place].tolist() == best.tolist()
        assert scores.top_logprobs[place] == pytest.approx(row[best], abs=1e-4)


def test_large_logits_do_not_overflow() -> None:
    logits = np.full((1, VOCABULARY), 1e4, dtype=np.float32)
    chosen, _, top = scoring.next_token_scores(logits, np.array([3]))
    assert chosen == pytest.approx([-np.log(VOCABULARY)], abs=1e-3) and np.isfinite(top).all()
