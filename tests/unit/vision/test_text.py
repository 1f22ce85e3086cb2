"""Boxes of maps, lines of pages, characters of steps."""

import cv2
import numpy as np
import pytest

from services.vision import ctc
from services.vision.model import LINE_PADDING
from services.vision.text_boxes import find_boxes, in_reading_order
from services.vision.text_lines import (
    FIND_LONGEST_SIDE,
    LEAST_LINE_WIDTH,
    LONGEST_LINE,
    border_of,
    cut,
    finding_size,
    for_reading,
    for_rotation,
    page_of,
    page_size,
)


def map_with(*rectangles, size=(320, 640)):
    """A map with rectangles (centre, (width, height), angle) of certain text."""
    drawn = np.zeros(size, np.uint8)
    for rectangle in rectangles:
        cv2.fillPoly(drawn, [cv2.boxPoints(rectangle).astype(np.int32)], 1)
    return drawn.astype(np.float32) * 0.9


def test_a_box_is_grown_back_by_area_over_perimeter():
    (box,) = find_boxes(map_with(((200, 100), (200, 20), 0)), 640, 320)
    grown = 1.6 * 200 * 20 / (2 * (200 + 20))
    expected = [(100 - grown, 90 - grown), (300 + grown, 90 - grown), (300 + grown, 110 + grown)]
    assert np.abs(box[:3] - expected).max() <= 2.5


def test_boxes_are_in_pixels_of_the_page():
    page = find_boxes(map_with(((200, 100), (200, 20), 0)), 1280, 960)
    same = find_boxes(map_with(((200, 100), (200, 20), 0)), 640, 320)
    assert np.abs(page - same * (2, 3)).max() <= 3


@pytest.mark.parametrize("angle", [-20, 10, 20])
def test_a_slanted_box_is_slanted_and_clockwise_from_the_top_left(angle):
    (box,) = find_boxes(map_with(((300, 160), (240, 24), angle)), 640, 320)
    across = box[1] - box[0]
    assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(angle, abs=1.5)
    assert cv2.contourArea(box, oriented=True) > 0


def test_boxes_stay_inside_the_page():
    (box,) = find_boxes(map_with(((5, 5), (200, 20), 0)), 640, 320)
    assert box.min() >= 0


def test_faint_and_tiny_things_are_no_boxes():
    assert len(find_boxes(map_with(((100, 100), (100, 20), 0)) * 0.5, 640, 320)) == 0
    assert len(find_boxes(map_with(((100, 100), (2, 1), 0)), 640, 320)) == 0
    assert find_boxes(np.zeros((32, 32), np.float32), 32, 32).shape == (0, 4, 2)
    assert len(find_boxes(np.ones((320, 320), np.float32), 320, 320)) == 1


def box_at(x, y):
    return np.array([(x, y), (x + 50, y), (x + 50, y + 10), (x, y + 10)], np.float32)


def test_reading_order_is_by_lines_then_from_left_to_right():
    places = [(300, 4), (10, 8), (150, 0), (10, 40), (200, 33)]
    boxes = in_reading_order(np.stack([box_at(*place) for place in places]))
    assert [tuple(box[0]) for box in boxes] == [(10, 8), (150, 0), (300, 4), (10, 40), (200, 33)]


@pytest.mark.parametrize(
    ("size", "page", "border", "finding"),
    [
        ((800, 600), (800, 600), 0, (992, 736)),
        ((1600, 1200), (1600, 1200), 0, (1600, 1216)),
        ((4000, 3000), (1984, 1504), 0, (1984, 1504)),
        ((3000, 4000), (1504, 1984), 0, (1504, 1984)),
        ((1000, 100), (1000, 100), 75, (2944, 736)),
        ((1, 1), (32, 32), 0, (736, 736)),
        ((10_000, 1), (1984, 32), 232, (2944, 736)),
    ],
)
def test_sizes_of_pages(size, page, border, finding):
    assert page_size(*size) == page
    assert border_of(*page) == border
    assert finding_size(page[0], page[1] + 2 * border) == finding


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (3, 700), (16_384, 2), (1, 1), (1, 2), (31, 2000)])
def test_extreme_pictures_stay_bounded(size):
    page = page_of(np.zeros((size[1], size[0], 3), np.uint8))
    height, width = page.finding.shape[:2]
    assert height % 32 == width % 32 == 0
    assert max(height, width) <= FIND_LONGEST_SIDE
    assert height * width <= 4_194_304


def test_a_cut_line_is_straight():
    page = np.zeros((200, 300, 3), np.uint8)
    box = np.array([(98, 65), (210.8, 106), (200.5, 134.2), (87.7, 93.2)], np.float32)
    cv2.fillPoly(page, [box.astype(np.int32)], (255, 255, 255))
    line, corners = cut(page, box)
    assert line.shape[:2] == pytest.approx((30, 120), abs=1)
    assert line[5:-5, 5:-5].mean() > 250
    assert np.array_equal(corners, box)


def test_an_upright_box_is_read_from_the_side():
    page = np.arange(200 * 100 * 3, dtype=np.uint32).reshape(200, 100, 3).astype(np.uint8)
    box = np.array([(20, 10), (50, 10), (50, 150), (20, 150)], np.float32)
    line, corners = cut(page, box)
    assert line.shape == (30, 140, 3)
    assert np.array_equal(line[0, 0], page[10, 49])
    assert corners.tolist() == [[50, 10], [50, 150], [20, 150], [20, 10]]


def test_lines_for_the_graphs():
    line = np.full((24, 60, 3), 9, np.uint8)
    small, reading = for_rotation(line), for_reading(line, turned=False)
    assert small.shape == (48, 192, 3)
    assert reading.shape == (48, LEAST_LINE_WIDTH, 3)
    assert (reading[:, :120] == 9).all()
    assert (reading[:, 120:] == LINE_PADDING).all()
    assert for_reading(np.zeros((10, 200, 3), np.uint8), turned=False).shape == (48, 960, 3)
    assert for_reading(np.zeros((4, 2000, 3), np.uint8), turned=False).shape == (48, LONGEST_LINE, 3)


def test_a_line_upside_down_is_turned():
    line = np.zeros((48, 400, 3), np.uint8)
    line[:10, :10] = 255
    turned = for_reading(line, turned=True)
    assert (turned[38:, 390:] == 255).all()
    assert turned.sum() == line.sum()


ALPHABET = ["blank", "a", "b", " "]


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([0, 1, 1, 0, 1, 2, 2], "aab"),
        ([1, 1, 1], "a"),
        ([0, 0], ""),
        ([1, 3, 3, 2], "a b"),
        ([2], "b"),
    ],
)
def test_repeats_count_once_and_blanks_separate(steps, text):
    assert ctc.read(np.array(steps, np.int32), np.ones(len(steps), np.float32), ALPHABET) == (text, float(bool(text)))


def test_confidence_is_that_of_the_characters():
    steps, confidences = np.array([0, 1, 1, 2], np.int32), np.array([0.1, 0.9, 0.2, 0.5], np.float32)
    assert ctc.read(steps, confidences, ALPHABET) == ("ab", pytest.approx(0.7))
