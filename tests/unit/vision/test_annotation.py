import io

import numpy as np
import pytest
from PIL import Image

from services.vision.annotation import COLOURS, canvas_of, draw
from services.vision.tasks import Mark, corners_of

BOX = corners_of(np.array([0.25, 0.5, 0.75, 0.9], np.float32))


def drawn(size, *marks):
    canvas = canvas_of(np.full((size[1], size[0], 3), 128, np.uint8))
    return np.asarray(Image.open(io.BytesIO(draw(canvas, marks)))).astype(int)


def near(pixel, colour):
    return np.abs(pixel - np.array(colour)).max() < 60


def test_an_outline_is_where_the_box_is():
    picture = drawn((400, 200), Mark("", 2, BOX))
    assert near(picture[100, 200], COLOURS[2])
    assert any(near(picture[140, x], COLOURS[2]) for x in range(98, 103))
    assert near(picture[140, 200], (128, 128, 128))


def test_labels_do_not_hide_each_other():
    one = drawn((400, 200), Mark("one", 0, BOX))
    both = drawn((400, 200), Mark("one", 0, BOX), Mark("other", 4, BOX))
    label = one[85:95, 105:115]
    assert np.abs(both[85:95, 105:115] - label).max() < 40
    assert near(both[104, 104], COLOURS[4])


def test_a_caption_and_dots():
    picture = drawn((400, 200), Mark("espresso 0.95", 5, dots=np.array([(0.5, 0.5)], np.float32)))
    assert near(picture[2, 2], COLOURS[5])
    assert near(picture[100, 200], COLOURS[5])


def test_large_pictures_are_scaled_down():
    assert drawn((4000, 2000), Mark("a", 0, BOX)).shape[:2] == (1000, 2000)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 3)])
@pytest.mark.parametrize("text", ["", "x", "long " * 100, "日本語"])
def test_nothing_is_too_small_or_too_long(size, text):
    assert drawn(size, Mark(text, 9, BOX, BOX), Mark(text, 1)).shape == (size[1], size[0], 3)
