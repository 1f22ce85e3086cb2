"""Classes of whole pictures: the model's own preprocessing, probabilities, the best of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.common.batcher import Batcher
from services.vision.tasks import OVERSAMPLING, Mark, Options, Pixels, ServedModel
from services.vision.turnstile import Turn

CROP_PADDING = 32
"""The original takes the central square of size / (size + 32) of the short side (EfficientNet's `crop_padding`)."""


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
        order = np.argsort(-scores, kind="stable")
        wanted = scores[order] >= options.threshold
        if options.labels is not None:
            wanted &= np.isin(order, list(options.labels))
        best = order[wanted][: options.top_k].tolist()
        return [Classification(self.model.labels[index], float(scores[index]), index) for index in best]

    def marks(self, found: Sequence[Classification]) -> list[Mark]:
        """See Task. The best label alone."""
        return [Mark(f"{best.label} {best.score:.2f}", best.class_index) for best in found[:1]]


def central_square(pixels: Pixels, size: int) -> Pixels:
    """Return the central square scaled to `size`, as scaling the short side to size + 32 and cropping would.

    The filter is the original's: bicubic with antialiasing, by Pillow.
    """
    height, width = pixels.shape[:2]
    (left, right), (top, bottom) = (_span(length, min(width, height), size) for length in (width, height))
    whole = Image.fromarray(pixels)
    scaled = whole.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    return np.asarray(scaled)


def _span(length: int, shorter: int, size: int) -> tuple[float, float]:
    """Return which part of a side of `length` pixels is seen, whole pixels of the scaled picture as in the original."""
    scaled = (size + CROP_PADDING) * length // shorter
    start = round((scaled - size) / 2)
    return start * length / scaled, (start + size) * length / scaled


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities that add up to 1."""
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), dtype=np.float32)
