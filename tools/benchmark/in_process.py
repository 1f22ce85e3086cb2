"""What a program without a service does before the graph: decoding and preparing a picture."""

from collections.abc import Callable
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from services.vision import decoding
from services.vision.classifier import Classifier, central_square
from services.vision.model import PIXELS
from services.vision.settings import VisionSettings
from services.vision.tasks import ServedModel

Inputs = dict[str, NDArray[np.uint8]]


def plain_inputs(size: int) -> Callable[[bytes], Inputs]:
    """Return what does it as most programs do: OpenCV decodes the whole picture, which is then scaled and cropped."""

    def inputs(file: bytes) -> Inputs:
        decoded = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
        pixels = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        return {PIXELS: central_square(pixels, size)[None]}

    cv2.setNumThreads(1)
    return inputs


def classifier_inputs(size: int) -> Callable[[bytes], Inputs]:
    """Return what turns a file into the inputs of a classifier's graph as the service does it, at reduced size."""
    decoding.configure()
    settings = VisionSettings()
    limits = decoding.SizeLimits(settings.max_image_bytes, settings.max_pixels, settings.max_side)
    classifier = Classifier(ServedModel("", "classify", (), (), "", ""), size, cast(Any, None), 0.0)

    def inputs(file: bytes) -> Inputs:
        header = decoding.inspect(file, "file", limits)
        pixels = decoding.decode(file, header, "file", classifier.scale(header.width, header.height))
        return {PIXELS: classifier.prepare(pixels)[None]}

    return inputs
