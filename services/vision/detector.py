"""Objects with boxes: stretched input, per-class NMS over the graph's candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.batcher import Batcher
from services.vision.overlap import suppress
from services.vision.tasks import OVERSAMPLING, Mark, Options, Pixels, Points, ServedModel, corners_of
from services.vision.turnstile import Turn

Candidates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Detection:
    """One object in a picture."""

    label: str
    score: float
    class_index: int
    box: Points
    """x_min, y_min, x_max, y_max, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds objects with one model."""

    model: ServedModel
    size: int
    """Side of the model's square input."""
    iou_threshold: float
    """The model's own."""
    batcher: Batcher[Pixels, Candidates]
    weight: float
    """Slot-seconds for each pixel of the input."""

    def scale(self, width: int, height: int) -> float:
        """See Task."""
        return min(1.0, OVERSAMPLING * self.size / min(width, height))

    def memory(self, width: int, height: int) -> int:
        """See Task."""
        return self.size * self.size * 3

    def cost(self, width: int, height: int) -> float:
        """See Task."""
        return self.weight * self.size * self.size

    def prepare(self, pixels: Pixels) -> Pixels:
        """See Task. The result is [size, size, 3].

        The picture is stretched, not letterboxed: the model was trained on stretched pictures (TensorFlow's
        `fixed_shape_resizer`), so boxes of 0..1 are those of the original picture as they are. Letterboxed, the cat of
        scikit-image's chelsea falls from 0.91 to 0.79.
        """
        return stretched(pixels, self.size)

    async def find(self, prepared: Pixels, options: Options, turn: Turn) -> list[Detection]:
        """See Task."""
        (found,) = await self.batcher.submit([prepared], [self.size * self.size], turn.priority)
        boxes, scores, classes = found
        wanted = scores >= options.threshold
        if options.labels is not None:
            wanted &= np.isin(classes, list(options.labels))
        boxes, scores, classes = boxes[wanted], scores[wanted], classes[wanted]
        threshold = self.iou_threshold if options.iou_threshold is None else options.iou_threshold
        kept = suppress(boxes, scores, threshold, options.top_k, classes)
        upright = np.clip(boxes[:, [1, 0, 3, 2]], 0, 1)
        return [Detection(self.model.labels[classes[i]], float(scores[i]), int(classes[i]), upright[i]) for i in kept]

    def marks(self, found: Sequence[Detection]) -> list[Mark]:
        """See Task."""
        return [Mark(f"{one.label} {one.score:.2f}", one.class_index, corners_of(one.box)) for one in found]


def stretched(pixels: Pixels, size: int) -> Pixels:
    """Return the picture as [size, size, 3], sampled as TensorFlow's bilinear resize of the training does.

    That one does not shift by half a pixel and looks at two source pixels only; what is far larger is first averaged
    down by a whole number, as the JPEG decoder does it.
    """
    height, width = pixels.shape[:2]
    factor = int(min(width, height) // (OVERSAMPLING * size))
    if factor > 1:
        width, height = width // factor, height // factor
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    scale = np.array([[width / size, 0, 0], [0, height / size, 0]], dtype=np.float64)
    sampled = cv2.warpAffine(
        pixels, scale, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled, dtype=np.uint8)
