"""The photographs that scikit-image and scikit-learn carry, and any number of views of them, the same in every run.

Needs scikit-image and scikit-learn of the `test` extra, which are imported when they are used: the command that
starts the fleet does not have them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageEnhance

NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "hubble_deep_field", "stereo_motorcycle", "rocket")
LARGEST_SIDE = 2200


def photographs() -> dict[str, Image.Image]:
    """Return the photographs by name, as RGB."""
    from sklearn.datasets import load_sample_image  # noqa: PLC0415

    others = {"china": load_sample_image("china.jpg"), "flower": load_sample_image("flower.jpg")}
    pictures = {
        **{name: carried(name) for name in NAMES},
        **{name: Image.fromarray(one) for name, one in others.items()},
    }
    return {name: image.convert("RGB") for name, image in pictures.items()}


def carried(name: str) -> Image.Image:
    """Return a picture of scikit-image by the name of the function that loads it."""
    from skimage import data  # noqa: PLC0415

    loaded = getattr(data, name)()
    return Image.fromarray(np.asarray(loaded[0] if isinstance(loaded, tuple) else loaded))


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """Return a picture as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def views(count: int, seed: int = 11) -> Iterator[tuple[str, bytes]]:
    """Yield `count` names and JPEG files: parts of the photographs in many sizes, mirrored, lit differently."""
    random = np.random.default_rng(seed)
    sources = photographs()
    names = list(sources)
    for number in range(count):
        name = names[number % len(names)]
        yield f"{name}-{number}", _view(sources[name], random)


def _view(source: Image.Image, random: np.random.Generator) -> bytes:
    share = random.uniform(0.5, 1.0, size=2)
    width, height = (round(side * part) for side, part in zip(source.size, share, strict=True))
    left, top = (
        int(random.integers(0, side - part + 1)) for side, part in zip(source.size, (width, height), strict=True)
    )
    longest = random.integers(1200, LARGEST_SIDE) if random.random() < 0.2 else random.integers(256, 900)
    scale = float(longest) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    view = source.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    view = ImageEnhance.Brightness(view).enhance(float(random.uniform(0.6, 1.4)))
    return jpeg(view, int(random.integers(80, 96)))
