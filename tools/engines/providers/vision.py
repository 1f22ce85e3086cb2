"""The graphs of the vision service by the task of their model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from services.common.manifest import Model
from tools.engines.providers import classification, detection, faces, text
from tools.engines.subjects import Provider, Subject

TASKS: Mapping[str, Provider] = {
    "classify": classification.subjects,
    "detect": detection.subjects,
    "detect_faces": faces.subjects,
    "read_text": text.subjects,
}


def subjects(model: Model, files: Mapping[str, Path]) -> tuple[Subject, ...]:
    """Return the graphs of one model."""
    assert model.vision is not None  # noqa: S101  # the manifest checks it
    return TASKS[model.vision.task](model, files)
