"""What a program without a service does before the graph: the service's own decoding and preparation of a picture."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from services.vision import decoding
from services.vision.classifier import Classifier
from services.vision.model import PIXELS
from services.vision.settings import VisionSettings
from services.vision.tasks import ServedModel

Inputs = dict[str, NDArray[np.uint8]]


def classifier_inputs(size: int) -> Callable[[bytes], Inputs]:
    """Set up the decoders of this process; return what turns a file into the inputs of a classifier's graph."""
    decoding.configure()
    settings = VisionSettings()
    limits = decoding.SizeLimits(settings.max_image_bytes, settings.max_pixels, settings.max_side)
    classifier = Classifier(ServedModel("", "classify", (), (), "", ""), size, cast(Any, None), 0.0)

    def inputs(file: bytes) -> Inputs:
        header = decoding.inspect(file, "file", limits)
        pixels = decoding.decode(file, header, "file", classifier.scale(header.width, header.height))
        return {PIXELS: classifier.prepare(pixels)[None]}

    return inputs
