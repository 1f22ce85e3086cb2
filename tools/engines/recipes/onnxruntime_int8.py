"""Eight-bit integers for ONNX Runtime on a CPU: unsigned activations, signed weights for each channel.

CPUs with VNNI (or AMX) multiply these exactly. Older ones add pairs of products in 16 bits, which overflow unless the
weights keep to seven bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import version_converter

from tools.engines.recipes.graph_nodes import after_the_last_weights, matching, name_nodes
from tools.engines.recipes.settings import Recipe
from tools.engines.subjects import Tensors

LEAST_OPSET, OPSET = 13, 17
"""Scales for each channel need the first; older graphs are raised to the second."""
STATIC_OPERATORS = ("Conv", "Gemm", "MatMul", "Clip", "Relu", "Add", "MaxPool", "GlobalAveragePool")


@dataclass(frozen=True, slots=True)
class Job:
    """One graph to quantise."""

    graph: Path
    out: Path
    recipe: Recipe
    bits: int
    """Of a weight: 8, or 7 for CPUs without VNNI."""
    show: Callable[[str], None]
    """Takes a line of progress."""


def quantise_dynamic(job: Job) -> None:
    """Write a graph whose weights are integers and whose activations become integers for each call."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - slow to import

    prepared = _prepare(job)
    try:
        job.show("quantising the weights")
        quantize_dynamic(
            str(prepared),
            str(job.out),
            per_channel=True,
            reduce_range=job.bits < 8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(matching(_names(prepared), job.recipe.keep)),
        )
    finally:
        prepared.unlink(missing_ok=True)


def quantise_static(job: Job, batches: Sequence[Tensors]) -> None:
    """Write a graph of Q/DQ nodes whose ranges come from real inputs."""
    from onnxruntime import quantization as ort  # noqa: PLC0415 - slow to import

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        seen = 0

        def get_next(self) -> dict[str, object] | None:
            if self.seen == len(batches):
                return None
            self.seen += 1
            job.show(f"calibrating, batch {self.seen} of {len(batches)}")
            return dict(batches[self.seen - 1])

    prepared = _prepare(job)
    try:
        model = onnx.load(prepared)
        kept = after_the_last_weights(model.graph) | matching(_names(prepared), job.recipe.keep)
        ort.quantize_static(
            str(prepared),
            str(job.out),
            Reader(),
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=list(STATIC_OPERATORS),
            per_channel=True,
            reduce_range=job.bits < 8,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=ort.CalibrationMethod[job.recipe.options["calibration"]],
            nodes_to_exclude=sorted(kept),
        )
    finally:
        prepared.unlink(missing_ok=True)


def _prepare(job: Job) -> Path:
    """Write the graph in a recent opset, its nodes named, constants folded and normalisations merged."""
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415 - slow to import

    job.show("folding constants")
    model = onnx.load(job.graph)
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if opset < LEAST_OPSET:
        model = version_converter.convert_version(model, OPSET)
    name_nodes(model.graph)
    raised, prepared = (job.out.with_suffix(f".{stage}.onnx") for stage in ("raised", "prepared"))
    onnx.save(model, raised)
    try:
        quant_pre_process(str(raised), str(prepared), skip_symbolic_shape=True)
    finally:
        raised.unlink(missing_ok=True)
    return prepared


def _names(graph: Path) -> list[str]:
    return [node.name for node in onnx.load(graph).graph.node]
