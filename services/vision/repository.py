"""The Triton models of one vision model, and the artifacts of the store that each of them takes."""

from collections.abc import Mapping
from pathlib import Path

from services.common.manifest import Model
from services.common.runtime_repository import RuntimeModel
from services.vision.model import contracts

GRAPH = "model.onnx"
LABELS, CHARACTERS = "labels.txt", "characters.txt"


def graph_artifact(model: Model, name: str) -> str:
    """Return the artifact of the graph `name`: "det" for pp_ocrv6_det, "model" where the model has a single graph."""
    return name.removeprefix(model.triton_name).lstrip("_") or "model"


def runtime_models(model: Model, files: Mapping[str, Path]) -> list[RuntimeModel]:
    """Return the graphs of `model` with the `files` of the store that they need."""
    return [
        RuntimeModel(
            name, {GRAPH: files[f"{graph_artifact(model, name)}.onnx"]}, folder=name, model=model.id, graph=GRAPH
        )
        for name in contracts(model)
    ]


def lines_of(path: Path) -> tuple[str, ...]:
    """Return the lines of a list of labels or characters; a character may itself be a kind of space."""
    return tuple(path.read_bytes().decode().removesuffix("\n").split("\n"))
