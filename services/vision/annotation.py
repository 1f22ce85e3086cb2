"""Results drawn into their picture, as JPEG."""

from collections.abc import Sequence
from math import sqrt

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from services.vision.tasks import Mark, Pixels, Points

MOST_PIXELS = 2_000_000
"""Larger pictures are scaled down for drawing."""
JPEG_QUALITY = 90
FULL_COLOUR = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
"""Thin coloured lines would fade otherwise."""
LONGEST_TEXT = 60
# Readable on light and dark ground and far apart from each other (after Okabe and Ito, for the colour-blind too).
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]


def canvas_scale(width: int, height: int) -> float:
    """Return the scale (0 to 1) at which a picture of this size is drawn on."""
    return min(1.0, sqrt(MOST_PIXELS / (width * height)))


def canvas_of(pixels: Pixels) -> Pixels:
    """Return a copy of a decoded picture to draw on, scaled down where it is large."""
    height, width = pixels.shape[:2]
    scale = canvas_scale(width, height)
    if scale == 1.0:
        return pixels.copy()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def draw(canvas: Pixels, marks: Sequence[Mark]) -> bytes:
    """Return the picture with the marks drawn into it as JPEG: outlines first, the labels above all of them."""
    image = Image.fromarray(canvas)
    drawing = _Drawing(image)
    for mark in reversed(marks):
        drawing.outline(mark)
    for mark in marks:
        drawing.label(mark)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, FULL_COLOUR]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR), options)
    return encoded.tobytes()


class _Drawing:
    """Draws marks in sizes that fit the picture."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._size = np.array(image.size, dtype=np.float32)
        shorter = min(image.size)
        self._line = max(2, round(shorter / 250))
        self._labels: list[Rectangle] = []
        self._font: Font = ImageFont.load_default(max(12.0, shorter / 32))

    def outline(self, mark: Mark) -> None:
        """Draw the outline and the dots of a mark."""
        colour = _colour(mark)
        if mark.outline is not None:
            corners = self._pixels(mark.outline)
            self._draw.line([*corners, corners[0], corners[1]], fill=colour, width=self._line, joint="curve")
        for x, y in self._pixels(mark.dots) if mark.dots is not None else ():
            self._draw.circle((x, y), 1.5 * self._line, fill=colour, outline=(0, 0, 0))

    def label(self, mark: Mark) -> None:
        """Write the text of a mark above its top left corner, further down where another label is."""
        if not mark.text:
            return
        text, colour = mark.text[:LONGEST_TEXT], _colour(mark)
        left, top, right, bottom = self._draw.textbbox((0, 0), text, font=self._font)
        margin = 2 * self._line
        width, height = right - left + 2 * margin, bottom - top + 2 * margin
        corner = (0.0, 0.0) if mark.outline is None else min(self._pixels(mark.outline), key=sum)
        x = max(0.0, min(corner[0], float(self._size[0]) - width))
        y = max(0.0, corner[1] - height)
        while any(_overlap((x, y, x + width, y + height), other) for other in self._labels):
            y += self._line
        if y + height > self._size[1]:
            return
        self._labels.append((x, y, x + width, y + height))
        self._draw.rectangle(self._labels[-1], fill=colour)
        ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
        self._draw.text((x + margin - left, y + margin - top), text, fill=ink, font=self._font)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in points * (self._size - 1)]


def _colour(mark: Mark) -> Colour:
    return COLOURS[mark.colour % len(COLOURS)]


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
