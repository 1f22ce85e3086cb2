"""Run and time a graph on ONNX Runtime's CUDA provider, with and without CUDA graphs: what engines are compared with.

Runs inside an environment with `onnxruntime-gpu`: python -m tools.engines.onnxruntime_cuda run request.json facts.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from tools.export.command import REFUSED

CUDA = "CUDAExecutionProvider"
WARM_UP_RUNS = 10


@dataclass(frozen=True, slots=True)
class TimeRequest:
    """What to run: the graph, `inputs` and `outputs` (.npz, arrays named "<number of the sample>:<tensor>")."""

    graph: str
    inputs: str
    outputs: str
    samples: int
    timed_runs: int = 100
    provider: str = CUDA


class NotRunError(Exception):
    """The provider is not there, or refuses the graph; one line."""


def run(request: TimeRequest) -> dict[str, Any]:
    """Run every sample and write its outputs; returns milliseconds (median) for each."""
    if request.provider not in ort.get_available_providers():
        raise NotRunError(f"onnxruntime {ort.__version__} has no {request.provider} in this environment")
    results: dict[str, Any] = {}
    timings = []
    with np.load(request.inputs) as stored:
        for number in range(request.samples):
            inputs = {key.partition(":")[2]: stored[key] for key in stored if key.startswith(f"{number}:")}
            plain = _open(request, {})
            outputs = dict(zip(_names(plain), plain.run(_names(plain), inputs), strict=True))
            results |= {f"{number}:{name}": array for name, array in outputs.items()}
            timing = {"queued_ms": _milliseconds(plain, request, inputs, outputs), "cuda_graph_ms": None}
            if request.provider == CUDA:
                captured = _open(request, {"enable_cuda_graph": "1"})
                timing["cuda_graph_ms"] = _milliseconds(captured, request, inputs, outputs)
            timings.append({"shapes": {name: list(array.shape) for name, array in inputs.items()}} | timing)
            print(f"sample {number + 1} of {request.samples}", flush=True)
    np.savez(request.outputs, **results)
    return {"runtime": f"onnxruntime {ort.__version__}, {request.provider}", "timings": timings}


def _open(request: TimeRequest, settings: dict[str, str]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(request.graph, options, providers=[(request.provider, settings)])
    except Exception as error:  # ONNX Runtime has a class for each kind
        raise NotRunError(" ".join(str(error).split())[:400]) from error
    if request.provider not in session.get_providers():  # it falls back silently
        raise NotRunError(f"{request.provider} does not start: no usable GPU, or its libraries are missing")
    return session


def _names(session: Any) -> list[str]:
    return [output.name for output in session.get_outputs()]


def _milliseconds(session: Any, request: TimeRequest, inputs: dict[str, Any], outputs: dict[str, Any]) -> float:
    """Return the median of wall milliseconds a run, with inputs and outputs in the device's memory throughout."""
    device, binding = "cuda" if request.provider == CUDA else "cpu", session.io_binding()
    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, device, 0))
    for name, array in outputs.items():
        value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), array.dtype, device, 0)
        binding.bind_ortvalue_output(name, value)
    times = []
    for _ in range(WARM_UP_RUNS + request.timed_runs):
        begin = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[WARM_UP_RUNS:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the request says; on refusal one line on stderr and exit code 3."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["run"])
    parser.add_argument("request", type=Path)
    parser.add_argument("facts", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        facts = run(TimeRequest(**json.loads(chosen.request.read_text(encoding="utf-8"))))
    except NotRunError as error:
        print(error, file=sys.stderr)
        return REFUSED
    chosen.facts.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
