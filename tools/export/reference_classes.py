"""Write what EfficientNet-Lite0 itself says of many photographs, as the reference of the tests.

Run in an environment with the `export` extra, scikit-image and scikit-learn:
`python -m tools.export.reference_classes --source DIR`, DIR being the folder with the weights of the manifest.
The original's whole pipeline: Pillow decodes, the shorter side is scaled to 256 (bicubic, antialiased), the central
224 x 224 are cut out, (x - 127) / 128, the torch module.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.export.efficientnet import SOURCE, load_original, original_logits
from tools.export.photographs import views

SIZE, SCALED, LABELS = 224, 256, 1000
COUNT = 320
KEPT = 5


def prepared(file: bytes) -> NDArray[np.uint8]:
    """Return what the original sees of a file: torchvision's Resize(256, BICUBIC) and CenterCrop(224)."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    image = image.resize((SCALED * width // shorter, SCALED * height // shorter), Image.Resampling.BICUBIC)
    left, top = (round((side - SIZE) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def main() -> None:
    """Write `classes` [pictures, 5] and `scores` [pictures, 5], best first, of the views in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder with the weights")
    parser.add_argument("--out", type=Path, default=Path("tests/data/efficientnet_reference.npz"), help="file to write")
    arguments = parser.parse_args()
    network = load_original(arguments.source / SOURCE, SIZE, LABELS)
    logits = np.concatenate([original_logits(network, prepared(file)[None]) for _, file in views(COUNT)])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = powers / powers.sum(axis=1, keepdims=True)
    classes = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
    best = np.take_along_axis(scores, classes, axis=1)
    np.savez_compressed(arguments.out, classes=classes.astype(np.int16), scores=best.astype(np.float32))


if __name__ == "__main__":
    main()
