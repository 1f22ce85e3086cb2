"""TensorRT and TensorRT-RTX through their one Python API: parse a graph, add profiles, build, describe what was built.

Runs inside an environment that has one of them, and imports nothing else of ours but plain modules. The network is
strongly typed: precision is that of the graph.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODULES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""Modules of each builder; the second one of TensorRT-RTX comes without its meta package."""
HARDWARE_COMPATIBILITY = ("none", "same-compute-capability", "ampere-plus")
RTX_COMPUTE_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
"""What an engine of TensorRT-RTX is built for where no GPU decides."""
_UNCAPTURABLE = ("NON_ZERO", "NMS", "LOOP", "RECURRENCE", "ITERATOR", "CONDITION")
"""Layers whose output shape or course depends on data: such an engine cannot be one CUDA graph."""


class BuildRefusedError(Exception):
    """There is no engine to be had from this graph, these profiles or this machine; one line that says why."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build. Sizes in bytes; `profiles` as in shapes.to_json, parsed."""

    builder: str
    graph: str
    out: str
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]]
    workspace_bytes: int
    timing_cache: str = ""
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    optimization_level: int = 3
    compute_capabilities: Sequence[str] = field(default=RTX_COMPUTE_CAPABILITIES)
    """Only of TensorRT-RTX, which builds for several; TensorRT builds for the GPU it runs on."""


def load(builder: str) -> Any:
    """Import a builder's module. BuildRefusedError when this environment has none that works."""
    for name in MODULES[builder]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise BuildRefusedError(f"{name} does not load: {error}") from error
        except ImportError as error:
            raise BuildRefusedError(f"{name} does not load: {error}") from error
    raise BuildRefusedError(f"this environment has no module {' or '.join(MODULES[builder])}")


def build(request: BuildRequest, show: Callable[[str], None]) -> dict[str, Any]:
    """Write the engine to `request.out` and return facts of it. BuildRefusedError says in one line why not."""
    trt = load(request.builder)
    complaints = _complaints(trt)
    builder = trt.Builder(complaints)
    if builder is None:
        raise BuildRefusedError(f"the builder does not start: {complaints.first()}")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    started = time.monotonic()
    _parse(trt, network, request.graph, complaints)
    parsed = time.monotonic()
    config, cache = _configure(trt, builder, network, request)
    monitor = _monitor(trt, show)
    config.progress_monitor = monitor
    complaints.lines.clear()
    plan = _built(builder, network, config, complaints)
    built = time.monotonic()
    _write(Path(request.out), memoryview(plan))
    if cache is not None:
        _write(Path(request.timing_cache), memoryview(cache.serialize()))
    return {
        "builder": f"{request.builder} {trt.__version__}",
        "parse_seconds": round(parsed - started, 3),
        "build_seconds": round(built - parsed, 3),
        "layers": network.num_layers,
        "inputs": {tensor.name: _signature(tensor) for tensor in _inputs(network)},
        "outputs": {tensor.name: _signature(tensor) for tensor in _outputs(network)},
        "cuda_graph_obstacles": sorted({layer.type.name for layer in _layers(network)} & set(_UNCAPTURABLE)),
    }


def _parse(trt: Any, network: Any, graph: str, complaints: Any) -> None:
    parser = trt.OnnxParser(network, complaints)
    if parser.parse_from_file(graph):
        if network.num_inputs and network.num_outputs:
            return
        raise BuildRefusedError("the graph is no ONNX file, or a corrupt one (it has no inputs or no outputs)")
    faults = [parser.get_error(number) for number in range(parser.num_errors)]
    if not faults:
        raise BuildRefusedError(f"the parser cannot read the graph: {complaints.first()}")
    fault = faults[0]
    code, said = fault.code().name, _one_line(fault.desc())
    if code == "MODEL_DESERIALIZE_FAILED":
        raise BuildRefusedError(f"the graph is no ONNX file, or a corrupt one ({said})")
    if operator := fault.node_operator():
        raise BuildRefusedError(
            f"operator {operator} (node '{fault.node_name()}', number {fault.node()}) is not supported: {code}: {said}"
        )
    raise BuildRefusedError(f"the parser refuses the graph: {code}: {said}")


def _configure(trt: Any, builder: Any, network: Any, request: BuildRequest) -> tuple[Any, Any]:
    """Return the builder's configuration and its timing cache, None where the builder has none."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    config.builder_optimization_level = request.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.max_aux_streams = 0  # one stream: what Triton captures as a CUDA graph
    if request.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if request.hardware_compatibility != "none":
        level = request.hardware_compatibility.replace("-", "_").upper()
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    for number, ranges in enumerate(request.profiles):
        _add_profile(network, config, builder.create_optimization_profile(), number, ranges)
    if request.builder == "tensorrt-rtx":  # whose timing caches do nothing
        config.num_compute_capabilities = len(request.compute_capabilities)
        for number, text in enumerate(request.compute_capabilities):
            capability = getattr(trt.ComputeCapability, f"SM{text.replace('.', '')}", None)
            if capability is None:
                raise BuildRefusedError(f"{request.builder} does not build for compute capability {text}")
            config.set_compute_capability(capability, number)
        return config, None
    if not request.timing_cache:
        return config, None
    stored = Path(request.timing_cache)
    cache = config.create_timing_cache(stored.read_bytes() if stored.is_file() else b"")
    if not config.set_timing_cache(cache, ignore_mismatch=False):  # of another GPU or release: begin a new one
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return config, cache


def _add_profile(network: Any, config: Any, profile: Any, number: int, ranges: Mapping[str, Any]) -> None:
    names = {tensor.name for tensor in _inputs(network)}
    if names != ranges.keys():
        raise BuildRefusedError(
            f"optimisation profile {number} is for inputs {', '.join(sorted(ranges))}; "
            f"the graph has {', '.join(sorted(names))}"
        )
    for name, (least, tuned, greatest) in ranges.items():
        try:
            profile.set_shape(name, tuple(least), tuple(tuned), tuple(greatest))
        except (ValueError, RuntimeError, TypeError) as error:
            text = f"optimisation profile {number}: {name}: {least} to {greatest}: {_one_line(str(error))}"
            raise BuildRefusedError(text) from error
    if config.add_optimization_profile(profile) < 0:
        raise BuildRefusedError(f"optimisation profile {number} does not fit the graph: {dict(ranges)}")


def _built(builder: Any, network: Any, config: Any, complaints: Any) -> Any:
    try:
        plan = builder.build_serialized_network(network, config)
    except MemoryError as error:
        raise BuildRefusedError("building takes more memory than this machine has") from error
    if plan is not None:
        return plan
    said = complaints.first()
    if any(word in said.lower() for word in ("out of memory", "outofmemory", "insufficient memory", "bad_alloc")):
        raise BuildRefusedError(f"the largest profile needs more memory than the limit allows: {said}")
    raise BuildRefusedError(f"no engine could be built: {said}")


def _write(path: Path, content: memoryview) -> None:
    """Write to a neighbour, then rename: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _signature(tensor: Any) -> list[Any]:
    """Return a tensor's KServe dtype and shape, -1 for a free axis."""
    kserve = {"FLOAT": "FP32", "HALF": "FP16", "BF16": "BF16", "BOOL": "BOOL"}
    return [kserve.get(tensor.dtype.name, tensor.dtype.name), list(tensor.shape)]


def _inputs(network: Any) -> list[Any]:
    return [network.get_input(number) for number in range(network.num_inputs)]


def _outputs(network: Any) -> list[Any]:
    return [network.get_output(number) for number in range(network.num_outputs)]


def _layers(network: Any) -> list[Any]:
    return [network.get_layer(number) for number in range(network.num_layers)]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]


def _complaints(trt: Any) -> Any:
    """Return a logger that keeps errors instead of printing them."""

    class Complaints(trt.ILogger):  # type: ignore[misc]  # its base is known only at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.lines.append(_one_line(message))

        def first(self) -> str:
            return self.lines[0] if self.lines else "no reason was given"

    return Complaints()


def _monitor(trt: Any, show: Callable[[str], None]) -> Any:
    """Return a progress monitor that shows the innermost phase and how far it is."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.shown = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            now = time.monotonic()
            if now - self.shown > 0.2:
                self.shown = now
                show(f"{phase_name}: {step + 1} of {self.steps.get(phase_name, 0)}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
