"""How far two detectors agree on what is where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_OVERLAP = 0.5
"""Intersection over union from which two boxes show the same thing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector finds in one picture."""

    boxes: NDArray[np.float32]
    """[n, 4]: x_min, y_min, x_max, y_max."""
    scores: NDArray[np.float32]
    classes: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BoxAgreement:
    """Counts over all pictures, as shares."""

    f1: float
    """Boxes of either that the other one has, too, over the boxes of both."""
    mean_overlap: float
    """Mean intersection over union of the pairs."""
    boxes: int
    """Boxes of the reference that were looked for."""


def agreement(
    reference: Sequence[Found], candidate: Sequence[Found], threshold: float, leeway: float = 0.0
) -> BoxAgreement:
    """Compare what two detectors find from a score of `threshold` on.

    A box counts as found by the other one from `threshold - leeway` on: what lies just at the threshold is no fault.
    """
    pairs = list(zip(reference, candidate, strict=True))
    missed = [_partners(one, other, threshold, leeway) for one, other in pairs]
    extra = [_partners(other, one, threshold, leeway) for one, other in pairs]
    there, wanted = sum((overlap > 0).sum() for overlap in missed), sum(map(len, missed))
    right, given = sum((overlap > 0).sum() for overlap in extra), sum(map(len, extra))
    f1 = (there + right) / max(wanted + given, 1)
    overlaps = np.concatenate([overlap[overlap > 0] for overlap in missed] or [np.zeros(0, dtype=np.float32)])
    return BoxAgreement(float(f1), float(overlaps.mean()) if len(overlaps) else 0.0, int(wanted))


def overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of a box [4] with others [n, 4]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(shared / np.maximum(areas - shared, 1e-12), dtype=np.float32)


def _partners(one: Found, other: Found, threshold: float, leeway: float) -> NDArray[np.float32]:
    """Return for each sure box of one detector its overlap with the other's box of its class, 0 where there is none.

    A box of the other one is the partner of one box only, the surest first.
    """
    free = np.flatnonzero(other.scores >= threshold - leeway)
    sure = np.flatnonzero(one.scores >= threshold)
    result = np.zeros(len(sure), dtype=np.float32)
    for number in np.argsort(-one.scores[sure], kind="stable"):
        index = sure[number]
        same = free[other.classes[free] == one.classes[index]]
        if not len(same):
            continue
        shared = overlaps(one.boxes[index], other.boxes[same])
        best = int(shared.argmax())
        if shared[best] >= LEAST_OVERLAP:
            result[number] = shared[best]
            free = free[free != same[best]]
    return result
