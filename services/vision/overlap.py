"""Non-maximum suppression: of boxes that show one thing the most confident one stays."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.intp]
MOST_CANDIDATES = 2000
"""Less confident boxes beyond so many are not looked at: a threshold of 0 must not cost seconds."""


def suppress(
    boxes: Floats, scores: Floats, iou_threshold: float, limit: int, classes: NDArray[np.int32] | None = None
) -> Integers:
    """Return the positions of the boxes that stay, most confident first, at most `limit`.

    `boxes` [n, 4] are two opposite corners, x and y in either order. A box goes when its intersection over union with
    a more confident one, of its class where `classes` [n] are given, is above the threshold.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while order.size and len(kept) < limit:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        goes = _overlap(boxes[best], areas[best], boxes[rest], areas[rest]) > iou_threshold
        if classes is not None:
            goes &= classes[rest] == classes[best]
        order = rest[~goes]
    return np.array(kept, dtype=np.intp)


def _overlap(box: Floats, area: np.float32, others: Floats, areas: Floats) -> Floats:
    """Return the intersection over union of `box` with each of `others`."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    return np.asarray(shared / np.maximum(area + areas - shared, 1e-12), dtype=np.float32)
