"""What the four tasks have in common: a model's facts, the caller's options, the steps from pixels to results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.vision.turnstile import Turn

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]
"""[n, 2]: x and y, 0 to 1 of the picture's width and height."""
Found = TypeVar("Found")
OVERSAMPLING = 2.0
"""A picture is decoded at no less than so many times the size its model takes: scaling down then hides the fraction."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the service tells of a model."""

    id: str
    task: str
    labels: tuple[str, ...]
    triton_models: tuple[str, ...]
    license: str
    profile: str


@dataclass(frozen=True, slots=True)
class Options:
    """The parameters of a call; a task takes those it knows."""

    threshold: float
    top_k: int = 0
    iou_threshold: float | None = None
    labels: frozenset[int] | None = None
    """Class indices to return; None for all."""
    annotate: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """One result as it is drawn."""

    text: str
    colour: int
    """Results of one number have one colour."""
    outline: Points | None = None
    """Corners of a polygon; None for a caption at the top left."""
    dots: Points | None = None


class Task(Protocol[Found]):
    """One model at work."""

    @property
    def model(self) -> ServedModel:
        """What the service tells of it."""

    def scale(self, width: int, height: int) -> float:
        """Return the least scale (0 to 1) at which a picture of this size may be decoded."""

    def memory(self, width: int, height: int) -> int:
        """Return about how many bytes are held while the picture is worked on, its decoding left out."""

    def cost(self, width: int, height: int) -> float:
        """Return the slot-seconds that the graphs need for a picture of this size, estimated."""

    def prepare(self, pixels: Pixels) -> Any:
        """Return what `find` takes, made of the decoded picture. Runs in a thread."""

    async def find(self, prepared: Any, options: Options, turn: Turn) -> list[Found]:
        """Return the results, best first (text: in reading order)."""

    def marks(self, found: Sequence[Found]) -> list[Mark]:
        """Return how results are drawn."""


def corners_of(box: Points) -> Points:
    """Return the four corners of a box [x_min, y_min, x_max, y_max], clockwise from the top left."""
    left, top, right, bottom = box
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float32)
