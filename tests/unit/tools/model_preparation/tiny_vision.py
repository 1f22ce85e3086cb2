"""Tiny vision graphs with the tensors of the real ones, their self-tests, and manifest entries; no network."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from services.common.manifest import Model, parse_manifest
from tools.export.graphs import Size, add_constant, give, prove, save, take_pixels

PIXELS = np.random.default_rng(3).integers(0, 256, size=(2, 32, 64, 3), dtype=np.uint8)


def mean_of_planes(height: Size = "height", width: Size = "width") -> onnx.ModelProto:
    """float planes [batch, 3, height, width] -> their mean [batch, 1, height, width]."""
    shape: list[Size] = ["batch", 3, height, width]
    planes = helper.make_tensor_value_info("planes", TensorProto.FLOAT, shape)
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 1, height, width])
    node = helper.make_node("ReduceMean", ["planes"], ["mean"], axes=[1], keepdims=1)
    graph = helper.make_graph([node], "mean", [planes], [mean])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)


def write_detector(folder: Path) -> None:
    """det.onnx: a text_map that is the mean of the colours over 255."""
    model = mean_of_planes()
    take_pixels(model, "height", "width", 1 / 255)
    squeeze = helper.make_node("Squeeze", ["mean"], ["text_map"], axes=[1])
    give(model, [squeeze], {"text_map": (TensorProto.FLOAT, ("batch", "height", "width"))})
    save(model, folder / "det.onnx")
    prove(folder / "det.onnx", {"pixels": PIXELS}, {"text_map": (PIXELS / 255).mean(axis=3, dtype=np.float32)})


def write_rotation(folder: Path) -> None:
    """cls.onnx: probabilities from the brightest and the mean pixel."""
    lines = PIXELS.repeat(3, axis=2)[:, :1].repeat(48, axis=1)
    model = mean_of_planes(48, 192)
    take_pixels(model, 48, 192, 1 / 255)
    nodes = [
        helper.make_node("ReduceMax", ["mean"], ["brightest"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Neg", ["brightest"], ["opposite"]),
        helper.make_node("Unsqueeze", ["brightest"], ["left"], axes=[1]),
        helper.make_node("Unsqueeze", ["opposite"], ["right"], axes=[1]),
        helper.make_node("Concat", ["left", "right"], ["probabilities"], axis=1),
    ]
    give(model, nodes, {"probabilities": (TensorProto.FLOAT, ("batch", 2))})
    save(model, folder / "cls.onnx")
    brightest = (lines / 255).mean(axis=3, dtype=np.float32).max(axis=(1, 2))
    prove(folder / "cls.onnx", {"pixels": lines}, {"probabilities": np.stack([brightest, -brightest], axis=1)})


def write_recogniser(folder: Path) -> None:
    """rec.onnx: for each column the row with the highest mean."""
    lines = PIXELS[:, :1].repeat(48, axis=1)
    lines[:, 7] = 255
    model = mean_of_planes(48, "width")
    take_pixels(model, 48, "width", 1 / 255)
    nodes = [
        helper.make_node("Squeeze", ["mean"], ["rows"], axes=[1]),
        helper.make_node("ArgMax", ["rows"], ["best"], axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["characters"], to=TensorProto.INT32),
        helper.make_node("ReduceMax", ["rows"], ["confidences"], axes=[1], keepdims=0),
    ]
    steps = ("batch", "steps")
    give(model, nodes, {"characters": (TensorProto.INT32, steps), "confidences": (TensorProto.FLOAT, steps)})
    save(model, folder / "rec.onnx")
    expected = {"characters": np.full((2, 64), 7, np.int32), "confidences": np.ones((2, 64), np.float32)}
    prove(folder / "rec.onnx", {"pixels": lines}, expected)


def write_reader(folder: Path) -> None:
    """Write all artifacts of a model that reads text."""
    folder.mkdir(parents=True)
    write_detector(folder)
    write_rotation(folder)
    write_recogniser(folder)
    (folder / "characters.txt").write_text("blank\na\n \n", encoding="utf-8")


def write_classifier(folder: Path) -> None:
    """Write all artifacts of a model that classifies: three logits from the mean colour."""
    folder.mkdir(parents=True)
    squares = PIXELS[:, :, :32]
    model = mean_of_planes(32, 32)
    take_pixels(model, 32, 32, 1 / 255)
    add_constant(model, "weights", np.array([1, 2, -1], dtype=np.float32))
    nodes = [
        helper.make_node("ReduceMean", ["mean"], ["brightness"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["brightness", "weights"], ["logits"]),
    ]
    give(model, nodes, {"logits": (TensorProto.FLOAT, ("batch", 3))})
    save(model, folder / "model.onnx")
    brightness = (squares / 255).mean(axis=(1, 2, 3), dtype=np.float32)[:, None]
    prove(
        folder / "model.onnx",
        {"pixels": squares},
        {"logits": (brightness * np.array([1, 2, -1])).astype(np.float32)},
    )
    (folder / "labels.txt").write_text("dark\nbright\nother\n", encoding="utf-8")


def vision_model(facts: dict[str, Any], artifacts: list[str]) -> Model:
    """Return a manifest entry with these facts and artifacts, all exported."""
    entry = {
        "service": "vision",
        "description": "tiny",
        "license": "Apache-2.0",
        "license_source": "made here",
        "files": [{"name": "weights", "sha256": "0" * 64, "size": 1}],
        "sources": [{"type": "folder", "path": "nowhere"}],
        "artifacts": {name: {"exporter": "pp-ocr"} for name in artifacts},
        "vision": facts,
    }
    return parse_manifest({"models": {"tiny-eye": entry}}, Path("models.toml")).model("tiny-eye")
