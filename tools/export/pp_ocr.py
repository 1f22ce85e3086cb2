"""Export PP-OCR: the three published graphs, fed with `pixels`; the recogniser chooses the characters itself.

Runs in the environment `export-onnx`: `python -m tools.export.pp_ocr --source DIR --out DIR --facts JSON`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from tools.export.command import ExportRefusedError, run_exporter, versions
from tools.export.graphs import Size, add_constant, compute, give, prove, save, take_pixels
from tools.export.pictures import scenes, text_lines

MODELS = "rapidocr/models/"
DETECTOR, ROTATION, RECOGNISER = (
    MODELS + name
    for name in ("PP-OCRv6_det_small.onnx", "ch_ppocr_mobile_v2.0_cls_mobile.onnx", "PP-OCRv6_rec_small.onnx")
)
BLANK = "blank"
TEXTS = ["FLOTILLA 2026", "0 AT 26 FOIL"]

Outputs = Mapping[str, tuple[int, tuple[Size, ...]]]


def build_graph(model: ModelProto, height: Size, width: Size, nodes: list[NodeProto], outputs: Outputs) -> ModelProto:
    """Put the normalisation of rapidocr before a graph, blue first and -1..1, and nodes behind it."""
    take_pixels(model, height, width, 2 / 255, -1, bgr=True)
    give(model, nodes, outputs)
    return model


def detector(model: ModelProto) -> ModelProto:
    """text_map [batch, height, width]: the probability of text for each pixel."""
    squeeze = helper.make_node("Squeeze", [_output(model)], ["text_map"], axes=[1])
    shape = ("batch", "height", "width")
    return build_graph(model, "height", "width", [squeeze], {"text_map": (TensorProto.FLOAT, shape)})


def rotation(model: ModelProto) -> ModelProto:
    """Probabilities [batch, 2] that a line is upright, or upside down. The published graph ends in a softmax."""
    name = helper.make_node("Identity", [_output(model)], ["probabilities"])
    return build_graph(model, 48, 192, [name], {"probabilities": (TensorProto.FLOAT, ("batch", 2))})


def recogniser(model: ModelProto) -> ModelProto:
    """characters, confidences [batch, steps] of the most likely entry.

    The published graph ends in MatMul, Add and Softmax over 18,710 entries a step. One Gemm over the steps of all
    lines, and TopK, which finds entry and probability in one pass, save a twelfth of the whole graph's time on a CPU.
    """
    features, weights, bias = _last_layer(model)
    add_constant(model, "best_count", np.array([1], dtype=np.int64))
    add_constant(model, "shape_start", np.array([0], dtype=np.int64))
    add_constant(model, "shape_end", np.array([2], dtype=np.int64))
    nodes = [
        helper.make_node("Flatten", [features], ["all_steps"], axis=2),
        helper.make_node("Gemm", ["all_steps", weights, bias], ["entry_logits"]),
        helper.make_node("Softmax", ["entry_logits"], ["entry_probabilities"], axis=1),
        helper.make_node("TopK", ["entry_probabilities", "best_count"], ["best_probabilities", "best_entries"], axis=1),
        helper.make_node("Shape", [features], ["features_shape"]),
        helper.make_node("Slice", ["features_shape", "shape_start", "shape_end"], ["batch_and_steps"]),
        helper.make_node("Reshape", ["best_probabilities", "batch_and_steps"], ["confidences"]),
        helper.make_node("Reshape", ["best_entries", "batch_and_steps"], ["entries"]),
        helper.make_node("Cast", ["entries"], ["characters"], to=TensorProto.INT32),
    ]
    steps = ("batch", "steps")
    outputs = {"characters": (TensorProto.INT32, steps), "confidences": (TensorProto.FLOAT, steps)}
    return build_graph(model, 48, "width", nodes, outputs)


def _last_layer(model: ModelProto) -> tuple[str, str, str]:
    """Return the names of features, weights and bias of the MatMul and Add before the Softmax that ends a graph."""
    nodes = {name: node for node in model.graph.node for name in node.output}
    constants = {constant.name for constant in model.graph.initializer}

    def original(name: str) -> str:
        while name in nodes and nodes[name].op_type == "Identity":
            name = nodes[name].input[0]
        return name

    def made_by(name: str, operator: str) -> NodeProto:
        node = nodes.get(original(name))
        if node is None or node.op_type != operator:
            raise ExportRefusedError(f"the recogniser does not end in MatMul, Add and Softmax: see '{name}'")
        return node

    softmax = made_by(_output(model), "Softmax")
    add = made_by(softmax.input[0], "Add")
    bias, product = sorted(add.input, key=lambda name: original(name) not in constants)
    multiply = made_by(product, "MatMul")
    return multiply.input[0], multiply.input[1], bias


def characters(model: ModelProto) -> list[str]:
    """Return what each index of the recogniser means: blank first, then the graph's own list, a space at the end."""
    listed = next((entry.value for entry in model.metadata_props if entry.key == "character"), "")
    entries = [BLANK, *listed.split("\n"), " "]
    classes = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    if len(entries) != classes:
        raise ExportRefusedError(f"the recogniser has {classes} classes, but {len(entries)} characters")
    return entries


def original_output(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run a published graph on pixels, prepared as rapidocr does."""
    scaled = (pixels[..., ::-1].astype(np.float32) * np.float32(1 / 255) - 0.5) / 0.5
    (values,) = compute(path, {"x": scaled.transpose(0, 3, 1, 2).astype(np.float32)}).values()
    return np.asarray(values, dtype=np.float32)


def export(source: Path, out: Path, _facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the three graphs, their self-tests and characters.txt."""
    entries = characters(onnx.load(source / RECOGNISER))
    for name, build, original in (
        ("det.onnx", detector, DETECTOR),
        ("cls.onnx", rotation, ROTATION),
        ("rec.onnx", recogniser, RECOGNISER),
    ):
        save(build(onnx.load(source / original)), out / name)
    (out / "characters.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")
    differences = _prove_all(source, out)
    return {"parity": {"max_abs_difference": differences}, "tools": versions(("onnx", "onnxruntime", "numpy"))}


def _prove_all(source: Path, out: Path) -> dict[str, float]:
    """Hold the graphs against the published ones on lines of text, and the detector on two sizes."""
    lines = text_lines(TEXTS, 48, 416)
    probabilities = original_output(source / RECOGNISER, lines)
    read = {"characters": probabilities.argmax(axis=2).astype(np.int32), "confidences": probabilities.max(axis=2)}
    short = text_lines(TEXTS, 48, 192)
    short[1] = short[1, ::-1, ::-1]
    worst = {
        "rec": prove(out / "rec.onnx", {"pixels": lines}, read),
        "cls": prove(out / "cls.onnx", {"pixels": short}, {"probabilities": original_output(source / ROTATION, short)}),
        "det": 0.0,
    }
    for height, width in ((64, 192), (96, 288)):
        page = scenes(2, height, width)
        page[:, 8:56, :192] = text_lines(TEXTS, 48, 192, dot=2)
        expected = {"text_map": original_output(source / DETECTOR, page)[:, 0]}
        worst["det"] = max(worst["det"], prove(out / "det.onnx", {"pixels": page}, expected))
    return worst


def _output(model: ModelProto) -> str:
    (output,) = model.graph.output
    return str(output.name)


if __name__ == "__main__":
    sys.exit(run_exporter(export, __doc__))
