"""The image classifier, judged by the class it gives to views of photographs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.common.manifest import Model
from services.vision.classifier import central_square
from services.vision.model import LOGITS, PIXELS
from tools.engines.metrics.classes import agreement, margins, mean_overlap
from tools.engines.providers.pictures import Pixels, calibration_views, judging_views
from tools.engines.subjects import Metric, Run, Subject, Tensors

CALIBRATION_PICTURES, JUDGING_PICTURES = 120, 320
BATCH = 8
CLEAR = 0.1
"""By so much the best class must lead the second for a picture to have a clear class."""


def subjects(model: Model, files: Mapping[str, Path]) -> tuple[Subject, ...]:
    """Return the classifier's graph."""
    assert model.vision is not None and model.vision.input_size is not None  # noqa: S101  # the manifest checks it
    size = model.vision.input_size
    graph = files["model.onnx"]
    return (Subject(model.id, model.triton_name, graph, partial(_calibration, size), partial(_evaluate, size)),)


def batches(pictures: Iterator[Pixels]) -> Iterator[Tensors]:
    """Yield pictures of one size in batches."""
    rows = list(pictures)
    for start in range(0, len(rows), BATCH):
        yield {PIXELS: np.stack(rows[start : start + BATCH])}


def _calibration(size: int) -> Iterator[Tensors]:
    return batches(central_square(picture, size) for picture in calibration_views(CALIBRATION_PICTURES))


def _evaluate(size: int, reference: Run, candidate: Run) -> tuple[Metric, ...]:
    inputs = list(batches(central_square(picture, size) for picture in judging_views(JUDGING_PICTURES)))
    before, after = (_logits(run, inputs) for run in (reference, candidate))
    clear = margins(before) >= CLEAR
    return (
        Metric(
            "top-1 agreement where the class is clear", 1.0, agreement(before[clear], after[clear]), int(clear.sum())
        ),
        Metric("probabilities in common, mean", 1.0, mean_overlap(before, after), len(before), decides=False),
        Metric("top-1 agreement, all pictures", 1.0, agreement(before, after), len(before), decides=False),
    )


def _logits(run: Run, inputs: list[Tensors]) -> NDArray[np.float32]:
    return np.concatenate([run(batch)[LOGITS] for batch in inputs])
