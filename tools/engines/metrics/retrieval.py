"""How well vectors find what belongs together: cosine, recall and normalised discounted cumulative gain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def mean_cosine(vectors: Floats, others: Floats) -> float:
    """Return the mean cosine between the rows of two arrays [n, dimensions]."""
    return float(np.mean(_cosines(vectors, others)))


def least_cosine(vectors: Floats, others: Floats) -> float:
    """Return the smallest cosine between the rows of two arrays [n, dimensions]."""
    return float(np.min(_cosines(vectors, others)))


def rankings(queries: Floats, passages: Floats) -> NDArray[np.intp]:
    """Return for each query the passages by falling cosine: [queries, passages] of positions."""
    scores = np.nan_to_num(queries @ passages.T, nan=-2.0)
    return np.asarray(np.argsort(-scores, axis=1, kind="stable"))


def ndcg(ranked: NDArray[np.intp], gains: Floats, depth: int) -> float:
    """Return the mean nDCG at `depth` (Jarvelin and Kekalainen 2002) for gains [queries, passages]."""
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    reached = np.take_along_axis(gains, ranked, axis=1)[:, :depth] @ discounts
    ideal = -np.sort(-gains, axis=1)[:, :depth] @ discounts
    return float(np.mean(reached / ideal))


def recall(ranked: NDArray[np.intp], best: NDArray[np.intp], depth: int) -> float:
    """Return the share of queries whose best passage [queries] is among the first `depth`."""
    return float(np.mean(np.any(ranked[:, :depth] == best[:, None], axis=1)))


def common_neighbours(ranked: NDArray[np.intp], others: NDArray[np.intp], depth: int) -> float:
    """Return the mean share of the first `depth` passages that two rankings have in common."""
    pairs = zip(ranked[:, :depth].tolist(), others[:, :depth].tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / depth for one, other in pairs]))


def _cosines(vectors: Floats, others: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(others, axis=1)
    cosines = np.sum(vectors * others, axis=1) / np.maximum(lengths, 1e-12)
    return np.nan_to_num(np.asarray(cosines, dtype=np.float32), nan=-1.0)
