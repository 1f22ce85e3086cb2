"""Number formats of returned vectors. Pure functions over L2-normalised float32 vectors [n, dimensions]."""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class OutputType(Enum):
    """The formats of `flotilla.embedding.v1.OutputType`, which documents their scales."""

    FLOAT = 1
    INT8 = 2
    UINT8 = 3
    BINARY = 4
    UBINARY = 5


def convert(vectors: Vectors, output_type: OutputType) -> NDArray[np.generic]:
    """Return the rows in `output_type`: float32, int8 or uint8; the binary formats have one bit a dimension."""
    match output_type:
        case OutputType.FLOAT:
            return vectors.astype("<f4", copy=False)
        case OutputType.INT8:
            return _scaled(vectors).astype(np.int8)
        case OutputType.UINT8:
            return (_scaled(vectors) + 128).astype(np.uint8)
        case OutputType.UBINARY:
            return np.packbits(vectors > 0, axis=1)
        case OutputType.BINARY:
            return (np.packbits(vectors > 0, axis=1).astype(np.int16) - 128).astype(np.int8)


def shorten(vectors: Vectors, dimensions: int) -> Vectors:
    """Return the first `dimensions` of each row, normalised again (Matryoshka representation, arXiv 2205.13147)."""
    if dimensions == vectors.shape[1]:
        return vectors
    cut = vectors[:, :dimensions]
    return np.asarray(cut / np.linalg.norm(cut, axis=1, keepdims=True), dtype=np.float32)


def _scaled(vectors: Vectors) -> Vectors:
    scaled: Vectors = np.clip(np.rint(vectors * 127), -127, 127)
    return scaled
