"""Pages and lines as pictures: a page as the graph that finds lines takes it, and lines cut out of a page.

Sizes are those PP-OCR's models are used with (PaddleOCR, RapidOCR). Pictures too long for them are bounded besides.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.vision.model import LINE_PADDING, ROTATION_WIDTH, TEXT_LINE_HEIGHT

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

LEAST_LINE_WIDTH = 320
"""Shorter lines are padded to this: the models were trained so."""
STRIDE = 32
LONGEST_SIDE = 2000
SHORTEST_SIDE = 30
FIND_SHORTEST_SIDE = 736
FIND_LONGEST_SIDE = 4096
"""Bounds what a long, narrow picture costs; PaddleOCR has no such bound."""
WIDEST_RATIO = 8
UPRIGHT_RATIO = 1.5
"""A line so many times as high as wide is read from the side."""
LONGEST_LINE = 4096
"""Width of a line at a height of 48; a longer one is squeezed."""


@dataclass(frozen=True, slots=True)
class Page:
    """A picture scaled to sensible sides, with a border above and below where it is very wide."""

    pixels: Pixels
    border: int
    """Height of the border above in pixels."""
    scaled: tuple[int, int]
    """Width and height without borders."""
    finding: Pixels
    """The page as the graph that finds lines takes it."""


def page_of(pixels: Pixels) -> Page:
    """Return the page of a picture."""
    height, width = pixels.shape[:2]
    scaled = page_size(width, height)
    if scaled != (width, height):
        pixels = _resized(pixels, scaled)
    border = border_of(*scaled)
    if border:
        pixels = np.asarray(cv2.copyMakeBorder(pixels, border, border, 0, 0, cv2.BORDER_CONSTANT), dtype=np.uint8)
    return Page(pixels, border, scaled, _resized(pixels, finding_size(pixels.shape[1], pixels.shape[0])))


def page_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height of the page: at most 2,000, at least 30; where scaled, multiples of 32."""
    size = (width, height)
    if max(size) > LONGEST_SIDE:
        size = _multiples(*size, LONGEST_SIDE / max(size))
    if min(size) < SHORTEST_SIDE:
        size = _multiples(*size, min(SHORTEST_SIDE / min(size), max(1.0, LONGEST_SIDE / max(size))))
    return size


def border_of(width: int, height: int) -> int:
    """Return how high the border above and below is: a very wide or flat picture gets room around its line."""
    if height > SHORTEST_SIDE and width / height <= WIDEST_RATIO:
        return 0
    wanted = max(width // WIDEST_RATIO, SHORTEST_SIDE) * 2
    return abs(wanted - height) // 2


def finding_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height that lines are found at: the shorter side at least 736, multiples of 32."""
    scale = max(1.0, FIND_SHORTEST_SIDE / min(width, height))
    return _multiples(width, height, min(scale, FIND_LONGEST_SIDE / max(width, height)))


def cut(pixels: Pixels, box: Points) -> tuple[Pixels, Points]:
    """Return the line in a box of corners [4, 2], straightened, and the corners in its direction of reading."""
    width = int(max(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[2] - box[3])))
    height = int(max(np.linalg.norm(box[0] - box[3]), np.linalg.norm(box[1] - box[2])))
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float32)
    line = cv2.warpPerspective(
        pixels,
        cv2.getPerspectiveTransform(box, target),
        (width, height),
        borderMode=cv2.BORDER_REPLICATE,
        flags=cv2.INTER_CUBIC,
    )
    if height >= UPRIGHT_RATIO * width:
        return np.asarray(cv2.rotate(line, cv2.ROTATE_90_COUNTERCLOCKWISE), dtype=np.uint8), np.roll(box, -1, axis=0)
    return np.asarray(line, dtype=np.uint8), box


def for_rotation(line: Pixels) -> Pixels:
    """Return a line as the graph that tells whether it is upside down takes it: [48, 192, 3], padded on the right."""
    height, width = line.shape[:2]
    scaled = _resized(line, (min(ROTATION_WIDTH, -(-TEXT_LINE_HEIGHT * width // height)), TEXT_LINE_HEIGHT))
    return _padded(scaled, ROTATION_WIDTH)


def for_reading(line: Pixels, turned: bool) -> Pixels:
    """Return a line as the graph that reads takes it: [48, width, 3]; `turned` says that it is upside down."""
    height, width = line.shape[:2]
    if turned:
        line = np.asarray(cv2.rotate(line, cv2.ROTATE_180), dtype=np.uint8)
    scaled = _resized(line, (min(LONGEST_LINE, -(-TEXT_LINE_HEIGHT * width // height)), TEXT_LINE_HEIGHT))
    return _padded(scaled, LEAST_LINE_WIDTH)


def _padded(line: Pixels, width: int) -> Pixels:
    missing = width - line.shape[1]
    if missing <= 0:
        return line
    padded = cv2.copyMakeBorder(line, 0, 0, 0, missing, cv2.BORDER_CONSTANT, value=(LINE_PADDING,) * 3)
    return np.asarray(padded, dtype=np.uint8)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _multiples(width: int, height: int, scale: float) -> tuple[int, int]:
    across, down = (max(STRIDE, round(int(side * scale) / STRIDE) * STRIDE) for side in (width, height))
    return across, down
