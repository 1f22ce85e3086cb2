"""Where the lines are: a map of text probabilities to quadrilaterals (differentiable binarisation, arXiv 1911.08947).

Thresholds and sizes are those PP-OCR's models are used with (PaddleOCR, RapidOCR), so that the same lines are found.
"""

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

Points = NDArray[np.float32]
PIXEL_THRESHOLD = 0.3
BOX_THRESHOLD = 0.5
UNCLIP_RATIO = 1.6
"""Training shrinks boxes, by area over perimeter; this grows them back."""
MOST_BOXES = 1000
LEAST_SIDE_IN_MAP = 3
LEAST_SIDE = 3
SAME_LINE = 10
"""Boxes whose top left corners are less than so many pixels apart in height are on one line of reading."""


def find_boxes(text_map: NDArray[np.float32], width: int, height: int) -> Points:
    """Return the boxes of a map as corners [n, 4, 2] in pixels of a page of `width` x `height`, in reading order.

    Corners go clockwise from the top left.
    """
    mask = cv2.dilate((text_map > PIXEL_THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([width / text_map.shape[1], height / text_map.shape[0]])
    found = (_box(text_map, contour, scale, (width, height)) for contour in contours[:MOST_BOXES])
    boxes = [box for box in found if box is not None]
    return in_reading_order(np.stack(boxes)) if boxes else np.empty((0, 4, 2), np.float32)


def in_reading_order(boxes: Points) -> Points:
    """Return boxes from top to bottom, those of one height from left to right."""
    from_top = boxes[np.argsort(boxes[:, 0, 1], kind="stable")]
    steps = np.diff(from_top[:, 0, 1], prepend=from_top[0, 0, 1])
    line = np.cumsum(steps >= SAME_LINE)
    return np.asarray(from_top[np.lexsort((from_top[:, 0, 0], line))], dtype=np.float32)


def _box(
    text_map: NDArray[np.float32], contour: cv2.typing.MatLike, scale: NDArray[np.float64], size: tuple[int, int]
) -> Points | None:
    """Return the corners of one contour in pixels of the page; None where it is too small or too faint."""
    rectangle, side = _smallest_rectangle(contour)
    if side < LEAST_SIDE_IN_MAP or _mean_inside(text_map, rectangle) < BOX_THRESHOLD:
        return None
    grown, side = _smallest_rectangle(_grow(rectangle))
    if side < LEAST_SIDE_IN_MAP + 2:
        return None
    limits = np.array(size)
    box = _clockwise(np.clip(np.round(grown * scale), 0, limits).astype(np.float32))
    box = np.clip(box, 0, limits - 1).astype(np.float32)
    sides = int(np.linalg.norm(box[0] - box[1])), int(np.linalg.norm(box[0] - box[3]))
    return box if min(sides) > LEAST_SIDE else None


def _smallest_rectangle(points: cv2.typing.MatLike) -> tuple[Points, float]:
    """Return the corners of the smallest rectangle around points, however it is turned, and its shorter side."""
    rectangle = cv2.minAreaRect(points)
    return np.asarray(cv2.boxPoints(rectangle), dtype=np.float32), float(min(rectangle[1]))


def _mean_inside(text_map: NDArray[np.float32], box: Points) -> float:
    """Return the mean probability inside a box."""
    height, width = text_map.shape
    low = np.clip(np.floor(box.min(axis=0)).astype(int), 0, (width - 1, height - 1))
    high = np.clip(np.ceil(box.max(axis=0)).astype(int), 0, (width - 1, height - 1))
    part = text_map[low[1] : high[1] + 1, low[0] : high[0] + 1]
    inside = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(inside, [_clockwise(box - low.astype(np.float32)).astype(np.int32)], [1])
    return float(cv2.mean(part, inside)[0])


def _grow(box: Points) -> NDArray[np.int32]:
    """Return the outline of a box grown on all sides, its corners round."""
    distance = cv2.contourArea(box) * UNCLIP_RATIO / cv2.arcLength(box, True)
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(_clockwise(box), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return np.array(offset.Execute(distance)[0], dtype=np.int32)


def _clockwise(box: Points) -> Points:
    """Return corners from the top left clockwise: of the two on the left the upper one, then the right ones."""
    by_x = box[np.argsort(box[:, 0], kind="stable")]
    left, right = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:]))
    return np.stack([left[0], right[0], right[1], left[1]])
