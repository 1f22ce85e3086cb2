import numpy as np
import pytest

from services.vision.overlap import MOST_CANDIDATES, suppress

BOXES = np.array([(0, 0, 10, 10), (1, 1, 11, 11), (20, 20, 30, 30), (0, 0, 10, 5)], np.float32)
SCORES = np.array([0.8, 0.9, 0.3, 0.5], np.float32)
CLASSES = np.array([1, 1, 1, 2], np.int32)


@pytest.mark.parametrize(
    ("threshold", "classes", "kept"),
    [
        (0.5, CLASSES, [1, 3, 2]),
        (0.7, CLASSES, [1, 0, 3, 2]),
        (0.3, None, [1, 2]),
        (0.0, CLASSES, [1, 3, 2]),
        (1.0, None, [1, 0, 3, 2]),
    ],
)
def test_the_most_confident_of_a_class_stays(threshold, classes, kept):
    assert suppress(BOXES, SCORES, threshold, 100, classes).tolist() == kept


def test_the_limit_keeps_the_best():
    assert suppress(BOXES, SCORES, 1.0, 2).tolist() == [1, 0]


def test_equal_boxes_are_one():
    assert suppress(np.repeat(BOXES[:1], 5, axis=0), np.ones(5, np.float32), 0.99, 100).tolist() == [0]


def test_empty_boxes_and_none_at_all():
    assert suppress(np.zeros((3, 4), np.float32), np.ones(3, np.float32), 0.5, 100).size == 3
    assert suppress(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.5, 100).size == 0


def test_it_equals_the_definition_on_random_boxes():
    random = np.random.default_rng(0)
    low = random.random((200, 2))
    boxes = np.concatenate([low, low + random.random((200, 2)) * 0.3], axis=1).astype(np.float32)
    scores = random.random(200).astype(np.float32)

    def iou(a, b):
        shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
        return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)

    kept = []
    for index in np.argsort(-scores):
        if all(iou(boxes[index], boxes[other]) <= 0.4 for other in kept):
            kept.append(int(index))
    assert suppress(boxes, scores, 0.4, 1000).tolist() == kept


def test_far_too_many_candidates_are_bounded():
    count = MOST_CANDIDATES * 3
    boxes = np.repeat(np.arange(count, dtype=np.float32)[:, None], 4, axis=1) + np.array([0, 0, 0.5, 0.5], np.float32)
    assert suppress(boxes, np.linspace(1, 0, count, dtype=np.float32), 0.5, count).size == MOST_CANDIDATES
