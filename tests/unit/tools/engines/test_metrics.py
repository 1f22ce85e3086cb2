import numpy as np
import pytest

from tools.engines.metrics import boxes, classes, retrieval
from tools.engines.metrics.transcripts import character_accuracy, word_accuracy
from tools.engines.providers.embedding import load_corpus


def _found(*rows: tuple[float, float, float, float, float, int]) -> boxes.Found:
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    return boxes.Found(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def test_every_question_of_the_corpus_has_a_best_passage() -> None:
    corpus = load_corpus()
    assert len(set(corpus.passages)) == len(corpus.passages) >= 60
    assert corpus.gains.shape == (len(corpus.queries), len(corpus.passages))
    assert (corpus.gains.argmax(axis=1) == corpus.best).all()


def test_a_perfect_ranking_has_a_gain_of_one_and_a_reversed_one_less() -> None:
    gains = np.array([[3, 1, 0, 0]], dtype=np.float32)
    assert retrieval.ndcg(np.array([[0, 1, 2, 3]]), gains, 4) == pytest.approx(1)
    # 1 / log2(4) + 3 / log2(5) over 3 / log2(2) + 1 / log2(3)
    assert retrieval.ndcg(np.array([[3, 2, 1, 0]]), gains, 4) == pytest.approx(0.4935, abs=1e-3)


def test_recall_and_neighbours_count_the_first_places() -> None:
    ranked, other = np.array([[2, 0, 1], [1, 2, 0]]), np.array([[0, 2, 1], [0, 1, 2]])
    assert retrieval.recall(ranked, np.array([0, 1]), 1) == 0.5
    assert retrieval.recall(ranked, np.array([0, 1]), 2) == 1
    assert retrieval.common_neighbours(ranked, other, 2) == 0.75


def test_vectors_that_are_no_numbers_have_the_worst_cosine() -> None:
    rows = np.eye(2, dtype=np.float32)
    assert retrieval.mean_cosine(rows, rows) == 1
    assert retrieval.least_cosine(rows, np.array([[1, 0], [np.nan, 0]], dtype=np.float32)) == -1


def test_classifiers_agree_where_the_best_class_is_the_same() -> None:
    one = np.array([[0, 5], [5, 0], [1, 0]], dtype=np.float32)
    assert classes.agreement(one, one[:, ::-1]) == 0
    assert classes.agreement(one, one * 2) == 1
    assert classes.agreement(one, np.full_like(one, np.nan)) == 0
    assert classes.margins(one)[2] == pytest.approx(np.tanh(0.5), abs=1e-6)
    assert classes.mean_overlap(one, one) == pytest.approx(1)


def test_boxes_of_one_class_and_place_agree() -> None:
    one = _found((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 30, 0.8, 2))
    same = boxes.agreement([one], [_found((0, 1, 10, 10, 0.7, 1), (20, 20, 30, 30, 0.6, 2))], 0.5)
    assert (same.f1, same.boxes) == (1, 2)
    assert same.mean_overlap == pytest.approx(0.95)
    other_class = boxes.agreement([one], [_found((0, 0, 10, 10, 0.9, 3), (20, 20, 30, 30, 0.8, 2))], 0.5)
    assert other_class.f1 == pytest.approx(0.5)


def test_extra_and_missing_boxes_cost() -> None:
    one, more = _found((0, 0, 10, 10, 0.9, 1)), _found((0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.9, 1))
    assert boxes.agreement([one], [more], 0.5).f1 == boxes.agreement([more], [one], 0.5).f1 == pytest.approx(2 / 3)
    assert boxes.agreement([one], [_found()], 0.5).f1 == 0
    assert boxes.agreement([_found()], [_found()], 0.5).boxes == 0


def test_what_lies_just_at_the_threshold_is_no_fault() -> None:
    sure, doubtful = _found((0, 0, 10, 10, 0.52, 1)), _found((0, 0, 10, 10, 0.47, 1))
    assert boxes.agreement([sure], [doubtful], 0.5, leeway=0.1).f1 == 1
    assert boxes.agreement([sure], [doubtful], 0.5).f1 == 0


def test_two_boxes_do_not_share_a_partner() -> None:
    twice = _found((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 9.5, 0.8, 1))
    assert boxes.agreement([twice], [_found((0, 0, 10, 10, 0.9, 1))], 0.5).f1 == pytest.approx(2 / 3)


def test_texts_are_measured_by_characters_and_by_words() -> None:
    assert character_accuracy(["abcd", "efgh"], ["abcd", "efgx"]) == pytest.approx(7 / 8)
    assert word_accuracy(["one two three four"], ["one two tree four"]) == pytest.approx(3 / 4)
    assert character_accuracy(["a"], ["completely wrong"]) == 0
