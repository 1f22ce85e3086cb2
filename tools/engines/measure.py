"""Parity and latency of a graph on this machine's GPU: ONNX Runtime with CUDA and engines, against the roofline.

What has been measured, and where, is in docs/engines.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.cli.console import Problem
from tools.engines.builders import Builder
from tools.engines.child import Child, Show
from tools.engines.onnxruntime_cuda import CUDA, TimeRequest
from tools.engines.sessions import open_graph
from tools.engines.shapes import Profile, covering
from tools.engines.subjects import Tensors
from tools.engines.tensorrt_runtime import RunRequest

SEED = 8
ROOFLINE_GPU = "H100"
ROOFLINE_MS: Mapping[tuple[str, int], float] = {
    ("all_minilm_l6_v2", 1): 0.007,
    ("all_minilm_l6_v2", 32): 0.125,
    ("efficientnet_lite0", 32): 0.3,
}
"""By graph and batch, for the shapes below: computed from the arithmetic and memory rates of an H100, not measured."""
FREE_AXES: Mapping[str, tuple[int, ...]] = {
    "all_minilm_l6_v2": (128,),
    "pp_ocrv6_det": (736, 736),
    "pp_ocrv6_rec": (320,),
    "centerface": (480, 640),
}
"""What free axes are measured at."""


@dataclass(frozen=True, slots=True)
class Row:
    """One graph at one batch on one runtime. Milliseconds are medians, with tensors in GPU memory throughout."""

    triton_model: str
    runtime: str
    batch: int
    queued_ms: float
    cuda_graph_ms: float | None
    roofline_ms: float | None
    distance: float
    """From the graph of the store on a CPU: of all outputs as one vector, relative to its length."""


def sample(triton_model: str, profiles: Sequence[Profile], batch: int) -> dict[str, NDArray[Any]]:
    """Return random inputs of the measured shape: ids with a mask of ones, or pixels."""
    random = np.random.default_rng(SEED)
    tensors: dict[str, NDArray[Any]] = {}
    for name, one in profiles[0].items():
        free = iter(FREE_AXES.get(triton_model, ()))
        fixed = zip(one.least[1:], one.greatest[1:], strict=True)
        shape = (batch, *(low if low == high else next(free, high) for low, high in fixed))
        if name == "pixels":
            tensors[name] = random.integers(0, 256, shape, dtype=np.uint8)
        elif "mask" in name:
            tensors[name] = np.ones(shape, dtype=np.int64)
        elif name.endswith("ids"):
            tensors[name] = random.integers(1000, 20_000, shape, dtype=np.int64)
        else:
            tensors[name] = random.standard_normal(shape, dtype=np.float32)
    return tensors


def measure_onnxruntime(
    triton_model: str, graph: Path, samples: Sequence[Tensors], python: Path, scratch: Path, *, provider: str = CUDA
) -> list[Row]:
    """Time a graph on ONNX Runtime in another environment. Problem when that has no such provider, or no GPU."""
    sent, received = _save(samples, scratch), scratch / "outputs.npz"
    child = Child("onnxruntime", python, "tools.engines.onnxruntime_cuda", scratch)
    request = TimeRequest(str(graph), str(sent), str(received), len(samples), provider=provider)
    facts = child.ask("run", asdict(request), lambda _line: None)
    return _rows(triton_model, graph, samples, received, facts)


def measure_engine(
    triton_model: str,
    engine: Path,
    graph: Path,
    samples: Sequence[Tensors],
    *,
    profiles: Sequence[Profile],
    builder: Builder,
    scratch: Path,
    show: Show,
) -> list[Row]:
    """Time an engine. `graph` is what it is compared with."""
    sent, received = _save(samples, scratch), scratch / "outputs.npz"
    numbers = [covering(profiles, {name: array.shape for name, array in one.items()}) for one in samples]
    if not all(numbers):
        raise Problem(f"{triton_model}: a measured shape lies outside the profiles", "correct tools/engines/measure.py")
    request = RunRequest(builder.name, str(engine), str(sent), str(received), [number[0] for number in numbers])
    facts = builder.run(request, show)
    return _rows(triton_model, graph, samples, received, facts | {"runtime": f"{facts['builder']} on {facts['gpu']}"})


def _rows(
    triton_model: str, graph: Path, samples: Sequence[Tensors], received: Path, facts: Mapping[str, Any]
) -> list[Row]:
    reference, rows = open_graph(graph), []
    with np.load(received) as stored:
        for number, (inputs, timing) in enumerate(zip(samples, facts["timings"], strict=True)):
            expected = reference(inputs)
            pairs = [(stored[f"{number}:{name}"], array) for name, array in expected.items()]
            batch = len(next(iter(inputs.values())))
            rows.append(
                Row(
                    triton_model,
                    facts["runtime"],
                    batch,
                    timing["queued_ms"],
                    timing["cuda_graph_ms"],
                    ROOFLINE_MS.get((triton_model, batch)),
                    _distance(pairs),
                )
            )
    return rows


def _distance(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    off = sum(float(np.sum((found.astype(np.float64) - expected) ** 2)) for found, expected in pairs)
    length = sum(float(np.sum(expected.astype(np.float64) ** 2)) for _, expected in pairs)
    return float(np.sqrt(off / (length or 1.0)))


def _save(samples: Sequence[Tensors], scratch: Path) -> Path:
    path = scratch / "inputs.npz"
    np.savez(path, **{f"{number}:{name}": array for number, one in enumerate(samples) for name, array in one.items()})
    return path
