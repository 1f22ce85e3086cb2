"""Which settings each recipe uses for which graph. A change here needs a higher version: it makes other graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tools.cli.console import Problem

PRECISIONS: Mapping[str, str] = {
    "fp16": "half precision by AutoCast, for TensorRT and ONNX Runtime on a GPU",
    "int8": "Q/DQ nodes in 8-bit integers, for TensorRT",
    "fp8": "Q/DQ nodes in 8-bit floats, for TensorRT",
    "cpu-int8": "8-bit integers for ONNX Runtime on a CPU",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to make a precision."""

    name: str
    version: int
    environment: str = ""
    """Extra of pyproject.toml whose packages it needs in an environment of their own; "": our own are enough."""
    packages: tuple[str, ...] = ()
    """Packages whose versions shape the result."""
    batches: int | None = None
    """How many batches of calibration inputs it uses; None: all there are."""
    keep: tuple[str, ...] = ()
    """Patterns (regular expressions) of the names of nodes that stay in floats."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What else the quantiser is told."""


_MODELOPT = ("nvidia-modelopt", "onnx", "onnxruntime")
_AUTOCAST = Recipe("modelopt-autocast-fp16", 1, "engines-precision", _MODELOPT, batches=1)
_QDQ_INT8 = Recipe(
    "modelopt-qdq-int8", 2, "engines-precision", _MODELOPT, options={"calibration": "max", "operators": ""}
)
_QDQ_FP8 = Recipe(
    "modelopt-qdq-fp8", 2, "engines-precision", _MODELOPT, options={"calibration": "max", "operators": ""}
)
_DYNAMIC = Recipe("onnxruntime-dynamic-int8", 1, packages=("onnxruntime",), batches=0)
_STATIC = Recipe("onnxruntime-static-int8", 1, packages=("onnxruntime",), options={"calibration": "MinMax"})

_RECIPES: Mapping[str, Recipe] = {"fp16": _AUTOCAST, "int8": _QDQ_INT8, "fp8": _QDQ_FP8, "cpu-int8": _STATIC}
# Quantised sums around an encoder's normalisations cost more than they save; its products are the work.
_MATRICES = {"calibration": "max", "operators": "MatMul Gemm"}
_FEED_FORWARD = (r".*/layer\.\d+/output/dense/MatMul",)
"""What follows a GELU: a few of its inputs are far larger than the rest, and one range has to hold them all."""
_DEPTHWISE = ".*[Dd]epthwise.*"
"""Convolutions of single channels: little work, little speed to gain, and their inputs lose a bit to the sign."""
_FACE_ENDS = ("Conv_[2-9]", "ConvTranspose_.*", "Conv_1(14|17|19|2[1-3])")
"""The first convolutions, and the sums that give heat map and boxes."""
_SSD_ENDS = ("BoxPredictor_.*", r"Conv__6\d\d", r"FeatureExtractor/MobilenetV2/(Conv|expanded_conv(_[1-5])?)/.*")
"""The first blocks, whose channels differ most in range, and the heads that give boxes and scores. Clips stay with the
convolution before them: one in integers would round what is not clipped yet."""
_FOR_GRAPH: Mapping[tuple[str, str], Recipe] = {
    ("all_minilm_l6_v2", "cpu-int8"): _DYNAMIC,
    ("all_minilm_l6_v2", "int8"): replace(_QDQ_INT8, options=_MATRICES, keep=_FEED_FORWARD),
    ("all_minilm_l6_v2", "fp8"): replace(_QDQ_FP8, options=_MATRICES),
    ("efficientnet_lite0", "int8"): replace(_QDQ_INT8, keep=(_DEPTHWISE,)),
    ("efficientnet_lite0", "fp8"): replace(_QDQ_FP8, keep=(_DEPTHWISE,)),
    ("ssd_mobilenet_v2", "int8"): replace(_QDQ_INT8, keep=(*_SSD_ENDS, _DEPTHWISE)),
    ("ssd_mobilenet_v2", "fp8"): replace(_QDQ_FP8, keep=(*_SSD_ENDS, _DEPTHWISE)),
    ("ssd_mobilenet_v2", "cpu-int8"): replace(_STATIC, version=2, keep=_SSD_ENDS),
    ("centerface", "int8"): replace(_QDQ_INT8, keep=_FACE_ENDS),
}
"""Where a graph needs another recipe, or other settings, than the rest."""


def recipe_for(triton_model: str, precision: str) -> Recipe:
    """Return the recipe of a graph. Problem names the choices where there is no such precision."""
    if precision not in _RECIPES:
        raise Problem(f"unknown precision '{precision}'", f"choose one of: {', '.join(PRECISIONS)}")
    return _FOR_GRAPH.get((triton_model, precision)) or replace(_RECIPES[precision])
