"""Faces with landmarks: CenterFace (arXiv 1911.03599), whose graph marks centres on a grid of a quarter of the size."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.batcher import Batcher
from services.vision.overlap import suppress
from services.vision.tasks import Mark, Options, Pixels, Points, ServedModel, corners_of
from services.vision.turnstile import Turn

STRIDE = 32
"""The graph takes multiples of this."""
CELL = 4
"""Pixels of the input for each cell of the grid."""
IOU_THRESHOLD = 0.3
"""The original's."""

Floats = NDArray[np.float32]
Grids = tuple[Floats, Floats, Floats, Floats]


@dataclass(frozen=True, slots=True)
class Face:
    """One face in a picture."""

    score: float
    box: Points
    """x_min, y_min, x_max, y_max, 0 to 1."""
    landmarks: Points
    """[5, 2]: left eye, right eye, nose, left and right corner of the mouth, left and right being the picture's."""


@dataclass(frozen=True, slots=True)
class FaceDetector:
    """Finds faces with one model."""

    model: ServedModel
    longest_side: int
    """Larger pictures are scaled down to this."""
    batcher: Batcher[Pixels, Grids]
    weight: float
    """Slot-seconds for each pixel of the input."""

    def scale(self, width: int, height: int) -> float:
        """See Task."""
        return min(1.0, self.longest_side / max(width, height))

    def memory(self, width: int, height: int) -> int:
        """See Task."""
        return 3 * self._input_pixels(width, height)

    def cost(self, width: int, height: int) -> float:
        """See Task."""
        return self.weight * self._input_pixels(width, height)

    def prepare(self, pixels: Pixels) -> Pixels:
        """See Task. The result is [height, width, 3], multiples of 32: stretched a little, as the original does."""
        height, width = pixels.shape[:2]
        target = input_size(width, height, self.longest_side)
        shrinks = target[0] < width or target[1] < height
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(pixels, target, interpolation=interpolation), dtype=np.uint8)

    async def find(self, prepared: Pixels, options: Options, turn: Turn) -> list[Face]:
        """See Task."""
        height, width = prepared.shape[:2]
        (grids,) = await self.batcher.submit([prepared], [height * width], turn.priority)
        boxes, scores, landmarks = decode_grids(*grids, options.threshold)
        kept = suppress(boxes, scores, IOU_THRESHOLD, options.top_k)
        size = np.array([width, height], dtype=np.float32)
        boxes, landmarks = np.clip(boxes / np.tile(size, 2), 0, 1), np.clip(landmarks / size, 0, 1)
        return [Face(float(scores[i]), boxes[i], landmarks[i]) for i in kept]

    def marks(self, found: Sequence[Face]) -> list[Mark]:
        """See Task."""
        return [Mark(f"{face.score:.2f}", 0, corners_of(face.box), face.landmarks) for face in found]

    def _input_pixels(self, width: int, height: int) -> int:
        columns, rows = input_size(width, height, self.longest_side)
        return columns * rows


def input_size(width: int, height: int, longest_side: int) -> tuple[int, int]:
    """Return width and height of the input: scaled to the longest side where larger, then up to multiples of 32."""
    scale = min(1.0, longest_side / max(width, height))
    across, down = (max(STRIDE, -(-round(side * scale) // STRIDE) * STRIDE) for side in (width, height))
    return across, down


def decode_grids(
    heatmap: Floats, scale: Floats, offset: Floats, landmarks: Floats, threshold: float
) -> tuple[Floats, Floats, Floats]:
    """Return boxes [n, 4], scores [n] and landmarks [n, 5, 2] in pixels of the input, before NMS.

    A cell of the heatmap above the threshold is a face whose centre is the cell's plus `offset`; its height and width
    are exp(scale); landmarks are fractions of the box from its top left.
    """
    rows, columns = np.nonzero(heatmap >= threshold)
    height, width = np.exp(scale[:, rows, columns]) * CELL
    middle_y, middle_x = (offset[:, rows, columns] + np.stack([rows, columns]) + 0.5) * CELL
    limit_x, limit_y = heatmap.shape[1] * CELL, heatmap.shape[0] * CELL
    left, top = np.clip(middle_x - width / 2, 0, limit_x), np.clip(middle_y - height / 2, 0, limit_y)
    right, bottom = np.minimum(left + width, limit_x), np.minimum(top + height, limit_y)
    marks = landmarks[:, rows, columns].reshape(5, 2, -1)
    points = np.stack([marks[:, 1] * width + left, marks[:, 0] * height + top], axis=-1).transpose(1, 0, 2)
    boxes = np.stack([left, top, right, bottom], axis=-1)
    return boxes.astype(np.float32), heatmap[rows, columns].astype(np.float32), points.astype(np.float32)
