"""The whole service against the original pipelines: torch for classes, RapidOCR for text.

The references are written by tools/export/reference_classes.py and tools/export/reference_text.py, which say how.
"""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from flotilla.vision.v1 import vision_pb2 as pb

from tests.integration.vision.known_pictures import images
from tools.export.pages import LINES, files
from tools.export.photographs import views

DATA = Path(__file__).resolve().parents[2] / "data"
CLASSES = DATA / "efficientnet_reference.npz"
TEXTS = json.loads((DATA / "rapidocr_reference.json").read_text())
MARGIN = 0.02
"""Where the original's best two classes are closer than this, the last digits decide which one comes first."""
TOGETHER = 32
FILES = files()
RIGHT = {*LINES, "the markers are found at the two extreme parts of the"}
"""What is written where RapidOCR is in doubt: lines that are upside down for it, and one of the scan."""


async def scores_of(stub, pictures: list[bytes]) -> np.ndarray:
    """The probabilities [pictures, classes] that the service gives."""
    rows = []
    for start in range(0, len(pictures), TOGETHER):
        request = pb.ClassifyRequest(images=images(*pictures[start : start + TOGETHER]), top_k=1000)
        for result in (await stub.Classify(request)).results:
            row = np.zeros(1000, np.float32)
            row[[one.class_index for one in result.classifications]] = [one.score for one in result.classifications]
            rows.append(row)
    return np.stack(rows)


async def test_classes_are_those_of_torch(stub):
    with np.load(CLASSES) as reference:
        classes, expected = reference["classes"].astype(int), reference["scores"]
    assert len(classes) >= 300
    pictures = await asyncio.to_thread(lambda: [file for _, file in views(len(classes))])
    scores = await scores_of(stub, pictures)
    agrees = scores.argmax(axis=1) == classes[:, 0]
    clear = expected[:, 0] - expected[:, 1] >= MARGIN
    assert agrees.mean() >= 0.99, f"{(~agrees).sum()} of {len(agrees)} differ, close ones counted"
    assert agrees[clear].all(), f"{(~agrees[clear]).sum()} of {clear.sum()} clear ones differ"
    difference = np.abs(np.take_along_axis(scores, classes, axis=1) - expected)
    assert difference.mean() <= 0.005


def test_the_reference_has_read_every_file():
    assert set(TEXTS) == set(FILES)


@pytest.mark.parametrize("name", FILES)
async def test_text_is_that_of_rapidocr(stub, name):
    """Line by line; where RapidOCR reads a line in several ways, one of them, or the right one."""
    response = await stub.ReadText(pb.ReadTextRequest(images=images(FILES[name][1])))
    found = [line.text for line in response.results[0].lines]
    assert len(found) == len(TEXTS[name])
    for text, readings in zip(found, TEXTS[name], strict=True):
        assert text in readings or (len(readings) > 1 and text in RIGHT), (text, readings)
