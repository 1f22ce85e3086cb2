"""Classes of whole pictures: the model's own preprocessing, probabilities, the best of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.common.batcher import Batcher
from services.vision.tasks import OVERSAMPLING, Mark, Options, Pixels, ServedModel
from services.vision.turnstile import Turn

CROP_PADDING = 32
"""The original takes the central square of size / (size + 32) of the short side (EfficientNet's `crop_padding`)."""
FILTER_SUPPORT = 2
"""Source pixels on either side that a bicubic filter sees at a scale of 1."""


@dataclass(frozen=True, slots=True)
class Classification:
    """One class of a picture."""

    label: str
    score: float
    class_index: int


@dataclass(frozen=True, slots=True)
class Classifier:
    """Classifies pictures with one model."""

    model: ServedModel
    size: int
    """Side of the model's square input."""
    batcher: Batcher[Pixels, NDArray[np.float32]]
    weight: float
    """Slot-seconds for each pixel of the input."""

    def scale(self, width: int, height: int) -> float:
        """See Task."""
        return min(1.0, OVERSAMPLING * (self.size + CROP_PADDING) / min(width, height))

    def memory(self, width: int, height: int) -> int:
        """See Task."""
        return self.size * self.size * 3

    def cost(self, width: int, height: int) -> float:
        """See Task."""
        return self.weight * self.size * self.size

    def prepare(self, pixels: Pixels) -> Pixels:
        """See Task. The result is [size, size, 3]."""
        return central_square(pixels, self.size)

    async def find(self, prepared: Pixels, options: Options, turn: Turn) -> list[Classification]:
        """See Task."""
        (logits,) = await self.batcher.submit([prepared], [self.size * self.size], turn.priority)
        scores = softmax(logits)
        order = [int(index) for index in np.argsort(-scores, kind="stable") if scores[index] >= options.threshold]
        wanted = [index for index in order if options.labels is None or index in options.labels]
        return [Classification(self.model.labels[i], float(scores[i]), i) for i in wanted[: options.top_k]]

    def mark(self, found: Classification) -> Mark:
        """See Task."""
        return Mark(f"{found.label} {found.score:.2f}", found.class_index)


def central_square(pixels: Pixels, size: int) -> Pixels:
    """Return the central square scaled to `size`, as scaling the short side to size + 32 and cropping would.

    The filter is the original's: bicubic with antialiasing, by Pillow.
    """
    height, width = pixels.shape[:2]
    side = min(width, height) * size / (size + CROP_PADDING)
    left, top = (width - side) / 2, (height - side) / 2
    margin = FILTER_SUPPORT * max(1.0, side / size) + 1
    x, y = max(0, int(left - margin)), max(0, int(top - margin))
    seen = pixels[y : int(top + side + margin) + 1, x : int(left + side + margin) + 1]
    box = (left - x, top - y, left - x + side, top - y + side)
    scaled = Image.fromarray(seen).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities that add up to 1."""
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), dtype=np.float32)
