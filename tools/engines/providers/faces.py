"""The face detector, judged by the faces it finds on photographs with many small ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from services.common.manifest import Model
from services.vision.face_detector import IOU_THRESHOLD, decode_grids, input_size
from services.vision.model import HEATMAP, LANDMARKS, OFFSET, PIXELS, SCALE
from services.vision.overlap import suppress
from tools.engines.metrics.boxes import Found, agreement
from tools.engines.providers.pictures import (
    CALIBRATION_SEED,
    JUDGING_SEED,
    Pixels,
    calibration_views,
    crowds,
    judging_views,
)
from tools.engines.subjects import Metric, Run, Subject, Tensors

CALIBRATION_PICTURES, JUDGING_PICTURES = 10, 20
"""So many views and so many crowds."""
LONGEST_SIDE = 640
THRESHOLD, LEEWAY = 0.5, 0.1
MOST_FACES = 100


def subjects(model: Model, files: Mapping[str, Path]) -> tuple[Subject, ...]:
    """Return the face detector's graph."""
    return (Subject(model.id, model.triton_name, files["model.onnx"], _calibration, _evaluate),)


def _calibration() -> Iterator[Tensors]:
    return _inputs(chain(calibration_views(CALIBRATION_PICTURES), crowds(CALIBRATION_PICTURES, CALIBRATION_SEED)))


def _evaluate(reference: Run, candidate: Run) -> tuple[Metric, ...]:
    inputs = list(_inputs(chain(judging_views(JUDGING_PICTURES), crowds(JUDGING_PICTURES, JUDGING_SEED))))
    before, after = (_found(run, inputs) for run in (reference, candidate))
    lenient, strict = (agreement(before, after, THRESHOLD, leeway) for leeway in (LEEWAY, 0.0))
    return (
        Metric(f"F1 of faces from {THRESHOLD}, found again from {THRESHOLD - LEEWAY}", 1.0, lenient.f1, lenient.boxes),
        Metric("overlap of the faces, mean", 1.0, lenient.mean_overlap, lenient.boxes, decides=False),
        Metric(f"F1 of faces from {THRESHOLD}", 1.0, strict.f1, strict.boxes, decides=False),
    )


def _inputs(pictures: Iterator[Pixels]) -> Iterator[Tensors]:
    for picture in pictures:
        size = input_size(picture.shape[1], picture.shape[0], LONGEST_SIDE)
        yield {PIXELS: np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)[None]}


def _found(run: Run, inputs: Sequence[Tensors]) -> list[Found]:
    found = []
    for batch in inputs:
        outputs = run(batch)
        heatmap, scale, offset, marks = (
            np.nan_to_num(outputs[name][0]) for name in (HEATMAP, SCALE, OFFSET, LANDMARKS)
        )
        boxes, scores, _ = decode_grids(heatmap, scale, offset, marks, THRESHOLD - LEEWAY)
        kept = suppress(boxes, scores, IOU_THRESHOLD, MOST_FACES)
        found.append(Found(boxes[kept], scores[kept], np.zeros(len(kept), dtype=np.int32)))
    return found
