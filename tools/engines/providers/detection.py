"""The object detector, judged by the boxes that are left after non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from services.common.manifest import Model
from services.vision.detector import stretched
from services.vision.model import BOXES, CLASSES, SCORES
from services.vision.overlap import suppress
from tools.engines.metrics.boxes import Found, agreement
from tools.engines.providers.classification import batches
from tools.engines.providers.pictures import calibration_views, judging_views
from tools.engines.subjects import Metric, Run, Subject, Tensors

CALIBRATION_PICTURES, JUDGING_PICTURES = 48, 320
THRESHOLD, LEEWAY = 0.5, 0.1
MOST_BOXES = 100


def subjects(model: Model, files: Mapping[str, Path]) -> tuple[Subject, ...]:
    """Return the detector's graph."""
    assert model.vision is not None and model.vision.input_size is not None  # noqa: S101  # the manifest checks it
    size, overlap = model.vision.input_size, model.vision.iou_threshold
    evaluate = partial(_evaluate, size, overlap)
    return (Subject(model.id, model.triton_name, files["model.onnx"], partial(_calibration, size), evaluate),)


def _calibration(size: int) -> Iterator[Tensors]:
    return batches(stretched(picture, size) for picture in calibration_views(CALIBRATION_PICTURES))


def _evaluate(size: int, overlap: float, reference: Run, candidate: Run) -> tuple[Metric, ...]:
    inputs = list(batches(stretched(picture, size) for picture in judging_views(JUDGING_PICTURES)))
    before, after = (_found(run, inputs, overlap) for run in (reference, candidate))
    lenient, strict = (agreement(before, after, THRESHOLD, leeway) for leeway in (LEEWAY, 0.0))
    return (
        Metric(f"F1 of boxes from {THRESHOLD}, found again from {THRESHOLD - LEEWAY}", 1.0, lenient.f1, lenient.boxes),
        Metric("overlap of the boxes, mean", 1.0, lenient.mean_overlap, lenient.boxes, decides=False),
        Metric(f"F1 of boxes from {THRESHOLD}", 1.0, strict.f1, strict.boxes, decides=False),
    )


def _found(run: Run, inputs: Sequence[Tensors], overlap: float) -> list[Found]:
    found = []
    for batch in inputs:
        outputs = run(batch)
        for boxes, scores, classes in zip(outputs[BOXES], outputs[SCORES], outputs[CLASSES], strict=True):
            kept = suppress(boxes, scores, overlap, MOST_BOXES, classes)
            found.append(Found(np.nan_to_num(boxes[kept]), np.nan_to_num(scores[kept]), classes[kept]))
    return found
