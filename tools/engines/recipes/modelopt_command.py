"""Runs nvidia-modelopt inside an environment of its own: one graph in, the same in another precision out.

    python -m tools.engines.recipes.modelopt_command --graph FILE --calibration FILE.npz --out FILE --request JSON

The request: {"precision": "fp16" | "int8" | "fp8", "calibration": "max" | "entropy", "operators": "types of nodes to
quantise; empty: all that can be", "keep": [patterns of names of nodes that stay as they are]}. Writes lines of progress
to stdout and the versions used beside the graph (.json); one line on stderr and exit code 3 when the quantiser refuses
the graph.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tools.engines.calibration import load
from tools.engines.recipes.graph_nodes import (
    after_the_last_weights,
    fit_half_precision,
    matching,
    name_nodes,
    spare_other_readers,
)
from tools.engines.subjects import Tensors

REFUSED = 3
PACKAGES = ("nvidia-modelopt", "onnx", "onnxruntime")


class BatchReader:
    """Hands batches to a calibrator; ONNX Runtime's CalibrationDataReader by its methods."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._batches: Iterator[Tensors] = load(path)
        self._seen = 0

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch, None after the last."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        self._seen += 1
        print(f"calibrating, batch {self._seen}", flush=True)
        return dict(batch)

    def get_first(self) -> dict[str, Any]:
        """Return the first batch, by which modelopt learns shapes."""
        return dict(next(load(self._path)))

    def rewind(self) -> None:
        """Start again."""
        self._batches = load(self._path)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(batch) for batch in load(self._path))


def convert(graph: Path, calibration: Path, out: Path, request: dict[str, Any], scratch: Path) -> None:
    """Write `out`. Raises whatever the quantiser raises."""
    model = onnx.load(graph)
    name_nodes(model.graph)
    fit_half_precision(model.graph)
    named = scratch / "model.onnx"
    onnx.save(model, named)
    kept = matching([node.name for node in model.graph.node], request["keep"])
    if request["precision"] == "fp16":
        converted = _autocast(named, calibration, _exactly(kept), scratch)
    else:
        kept |= after_the_last_weights(model.graph)
        converted = _quantise(named, calibration, _exactly(kept), request, scratch)
        _declare_shapes(converted.graph, model.graph)
    # Shapes of inner values carry symbols that TensorRT's parser stumbles over; it infers its own.
    del converted.graph.value_info[:]
    onnx.save(converted, out)


def _exactly(names: Iterable[str]) -> list[str]:
    """Return patterns that match these names only: modelopt's match beginnings."""
    return [f"{re.escape(name)}$" for name in sorted(names)]


def _autocast(graph: Path, calibration: Path, kept: list[str], scratch: Path) -> onnx.ModelProto:
    from modelopt.onnx.autocast import convert_to_mixed_precision  # noqa: PLC0415 - only in its environment

    first = scratch / "first.npz"
    np.savez(first, **{name: rows[:1] for name, rows in next(load(calibration)).items()})
    print("finding which nodes fit half precision", flush=True)
    converted: onnx.ModelProto = convert_to_mixed_precision(
        str(graph), low_precision_type="fp16", nodes_to_exclude=kept, keep_io_types=True, calibration_data=str(first)
    )
    return converted


def _quantise(
    graph: Path, calibration: Path, kept: list[str], request: dict[str, Any], scratch: Path
) -> onnx.ModelProto:
    from modelopt.onnx.quantization import quantize  # noqa: PLC0415 - only in its environment

    out = scratch / "quantised.onnx"
    quantize(
        str(graph),
        quantize_mode=request["precision"],
        calibration_data_reader=BatchReader(calibration),
        calibration_method=request["calibration"],
        calibration_eps=["cpu"],
        nodes_to_exclude=kept,
        op_types_to_quantize=request["operators"].split() or None,
        output_path=str(out),
        high_precision_dtype="fp16",
    )
    converted = onnx.load(out)
    if request["operators"]:
        spare_other_readers(converted.graph, request["operators"].split())
    return converted


def _declare_shapes(graph: onnx.GraphProto, original: onnx.GraphProto) -> None:
    """Declare the outputs' shapes as the original does: what modelopt infers may have another rank."""
    shapes = {output.name: output.type.tensor_type.shape for output in original.output}
    for output in graph.output:
        if output.name in shapes:
            output.type.tensor_type.shape.CopyFrom(shapes[output.name])


def main() -> int:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("graph", "calibration", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--request", type=json.loads, required=True)
    chosen = parser.parse_args()
    random.seed(0)
    np.random.seed(0)
    with tempfile.TemporaryDirectory(dir=chosen.out.parent) as scratch:
        try:
            convert(chosen.graph, chosen.calibration, chosen.out, chosen.request, Path(scratch))
        except Exception as error:
            print(f"refused: {' '.join(str(error).split())[:400] or type(error).__name__}", file=sys.stderr)
            return REFUSED
    facts = {"versions": {name: version(name) for name in PACKAGES}}
    chosen.out.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
