"""Pictures for calibration and for judging: photographs and scans that scikit-image and scikit-learn carry."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.export.photographs import photographs, views

Pixels = NDArray[np.uint8]

CALIBRATION_SEED, JUDGING_SEED = 5, 23
"""Views of the same photographs, but other parts, sizes and light."""
LEAST_FACE, LARGEST_FACE = 40, 110
"""Sides of the pasted faces in pixels."""


def calibration_views(count: int) -> Iterator[Pixels]:
    """Yield pictures [height, width, 3] to calibrate with."""
    return _decoded(count, CALIBRATION_SEED)


def judging_views(count: int) -> Iterator[Pixels]:
    """Yield pictures [height, width, 3] to judge with."""
    return _decoded(count, JUDGING_SEED)


def crowds(count: int, seed: int) -> Iterator[Pixels]:
    """Yield photographs [height, width, 3] with small faces (skimage's part of Labeled Faces in the Wild) on them."""
    from skimage import data  # noqa: PLC0415 - of the `test` extra

    load: Callable[[], NDArray[np.float32]] = data.lfw_subset
    faces = (load()[:100] * 255).astype(np.uint8)
    random = np.random.default_rng(seed)
    sources = list(photographs().values())
    for number in range(count):
        crowd = sources[number % len(sources)].resize((640, 480), Image.Resampling.BICUBIC)
        for column in range(4):
            for row in range(3):
                side = int(random.integers(LEAST_FACE, LARGEST_FACE))
                face = Image.fromarray(faces[random.integers(len(faces))]).resize(
                    (side, side), Image.Resampling.BICUBIC
                )
                left, top = (int(random.integers(0, 160 - side)) for _ in range(2))
                crowd.paste(face, (160 * column + left, 160 * row + top))
        yield np.asarray(crowd, dtype=np.uint8)


def _decoded(count: int, seed: int) -> Iterator[Pixels]:
    for _, content in views(count, seed):
        with Image.open(io.BytesIO(content)) as picture:
            yield np.asarray(picture.convert("RGB"), dtype=np.uint8)
