"""How far two classifiers agree, from their logits [pictures, classes]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def probabilities(logits: Floats) -> Floats:
    """Return the softmax of every row; rows that are no numbers become zeros."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.nan_to_num(np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32))


def agreement(logits: Floats, others: Floats) -> float:
    """Return the share of rows with the same best class; rows that are no numbers do not agree."""
    same = logits.argmax(axis=1) == others.argmax(axis=1)
    return float(np.mean(same & np.isfinite(others).all(axis=1)))


def margins(logits: Floats) -> Floats:
    """Return by how much probability the best class leads the second, for every row."""
    ordered = np.sort(probabilities(logits), axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def mean_overlap(logits: Floats, others: Floats) -> float:
    """Return the mean probability that two classifiers have in common: 1 less the total variation distance."""
    return float(np.mean(np.minimum(probabilities(logits), probabilities(others)).sum(axis=1)))
