"""Deserialise an engine, run real inputs through it, time it with and without CUDA graphs. Needs an NVIDIA GPU.

Runs inside an environment with TensorRT or TensorRT-RTX, `cuda-bindings` and NumPy.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.engines.tensorrt import BuildRefusedError, load

Arrays = dict[str, NDArray[Any]]

WARM_UP_RUNS = 10


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to run: the engine, `inputs` and `outputs` (.npz, arrays named "<number of the sample>:<tensor>")."""

    builder: str
    engine: str
    inputs: str
    outputs: str
    profiles: Sequence[int]
    """The optimisation profile of each sample."""
    timed_runs: int = 100


def run(request: RunRequest, show: Callable[[str], None]) -> dict[str, Any]:
    """Run every sample and write its outputs; returns milliseconds (median) for each, queued and as one CUDA graph.

    BuildRefusedError when there is no GPU, or the engine is not for it.
    """
    trt = load(request.builder)
    cuda = _Cuda()
    logger = trt.Logger(trt.Logger.ERROR)
    engine = trt.Runtime(logger).deserialize_cuda_engine(Path(request.engine).read_bytes())
    if engine is None:
        raise BuildRefusedError(f"this GPU or this release of {request.builder} does not take the engine")
    results: Arrays = {}
    timings: list[dict[str, Any]] = []
    with np.load(request.inputs) as stored, cuda.stream() as stream:
        for number, profile in enumerate(request.profiles):
            show(f"sample {number + 1} of {len(request.profiles)}")
            inputs = {key.partition(":")[2]: stored[key] for key in stored if key.startswith(f"{number}:")}
            with _Execution(_Session(trt, engine, cuda, stream), profile, inputs) as execution:
                results |= {f"{number}:{name}": array for name, array in execution.outputs().items()}
                shapes = {name: list(array.shape) for name, array in inputs.items()}
                timings.append({"shapes": shapes, "profile": profile} | execution.timings(request.timed_runs))
    np.savez(request.outputs, **results)
    count = engine.num_optimization_profiles
    memory = [engine.get_device_memory_size_for_profile_v2(number) for number in range(count)]
    return {
        "builder": f"{request.builder} {trt.__version__}",
        "gpu": cuda.gpu_name(),
        "activation_bytes": memory,
        "timings": timings,
    }


class _Cuda:
    """The CUDA runtime; every call raises BuildRefusedError with CUDA's own name of the fault."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime  # noqa: PLC0415 - only where there is a GPU
        except ImportError as error:
            raise BuildRefusedError(f"this environment has no cuda-bindings ({error})") from error
        self.api: Any = runtime
        self("cudaGetDeviceCount")

    def __call__(self, function: str, *arguments: Any) -> Any:
        status, *values = getattr(self.api, function)(*arguments)
        if int(status) != 0:
            raise BuildRefusedError(f"{function}: {status.name}: no usable NVIDIA GPU, or not enough of its memory")
        return values[0] if values else None

    def gpu_name(self) -> str:
        """Return the name of GPU 0."""
        return str(self("cudaGetDeviceProperties", 0).name.decode().rstrip("\0"))

    @contextmanager
    def stream(self) -> Iterator[Any]:
        """Give a stream."""
        stream = self("cudaStreamCreate")
        try:
            yield stream
        finally:
            self("cudaStreamDestroy", stream)

    def milliseconds(self, stream: Any, work: Callable[[], None]) -> float:
        """Return what the GPU takes for the work queued on a stream."""
        begin, end = self("cudaEventCreate"), self("cudaEventCreate")
        try:
            self("cudaEventRecord", begin, stream)
            work()
            self("cudaEventRecord", end, stream)
            self("cudaEventSynchronize", end)
            return float(self("cudaEventElapsedTime", begin, end))
        finally:
            self("cudaEventDestroy", begin)
            self("cudaEventDestroy", end)


@dataclass(frozen=True, slots=True)
class _Session:
    """What all executions share."""

    trt: Any
    engine: Any
    cuda: _Cuda
    stream: Any


class _Execution:
    """One execution context with its buffers for inputs of fixed shapes."""

    def __init__(self, session: _Session, profile: int, inputs: Mapping[str, Any]) -> None:
        self._trt, self._engine, self._cuda, self._stream = session.trt, session.engine, session.cuda, session.stream
        self._profile, self._inputs = profile, {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        self._buffers: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __enter__(self) -> _Execution:
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BuildRefusedError("there is not enough GPU memory for an execution context")
        self._context.set_optimization_profile_async(self._profile, int(self._stream))
        try:
            for name, array in self._inputs.items():
                if not self._context.set_input_shape(name, array.shape):
                    raise BuildRefusedError(f"profile {self._profile} does not take {name} {list(array.shape)}")
            for number in range(self._engine.num_io_tensors):
                self._allocate(self._engine.get_tensor_name(number))
        except BaseException:
            self._free()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._free()

    def outputs(self) -> Arrays:
        """Run once and return the outputs."""
        kinds = self._cuda.api.cudaMemcpyKind
        for name, array in self._inputs.items():
            self._cuda("cudaMemcpy", self._buffers[name], array.ctypes.data, array.nbytes, kinds.cudaMemcpyHostToDevice)
        self._execute()
        self._cuda("cudaStreamSynchronize", self._stream)
        results: Arrays = {}
        for name in self._shapes.keys() - self._inputs.keys():
            array = np.empty(self._shapes[name], dtype=self._trt.nptype(self._engine.get_tensor_dtype(name)))
            self._cuda("cudaMemcpy", array.ctypes.data, self._buffers[name], array.nbytes, kinds.cudaMemcpyDeviceToHost)
            results[name] = array
        return results

    def timings(self, runs: int) -> dict[str, float | None]:
        """Return the median of milliseconds a run, queued kernel by kernel and as one CUDA graph (None: impossible)."""
        for _ in range(WARM_UP_RUNS):
            self._execute()
        queued = [self._cuda.milliseconds(self._stream, self._execute) for _ in range(runs)]
        return {"queued_ms": statistics.median(queued), "cuda_graph_ms": self._as_cuda_graph(runs)}

    def _as_cuda_graph(self, runs: int) -> float | None:
        api, graph = self._cuda.api, None
        self._cuda("cudaStreamSynchronize", self._stream)
        self._cuda("cudaStreamBeginCapture", self._stream, api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            self._execute()
        finally:
            status, graph = api.cudaStreamEndCapture(self._stream)
        if int(status) != 0:
            return None
        executable = self._cuda("cudaGraphInstantiate", graph, 0)

        def launch() -> None:
            self._cuda("cudaGraphLaunch", executable, self._stream)

        try:
            for _ in range(WARM_UP_RUNS):
                launch()
            return statistics.median([self._cuda.milliseconds(self._stream, launch) for _ in range(runs)])
        finally:
            self._cuda("cudaGraphExecDestroy", executable)
            self._cuda("cudaGraphDestroy", graph)

    def _allocate(self, name: str) -> None:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(side < 0 for side in shape):
            raise BuildRefusedError(f"the shape of output {name} depends on data")
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        self._buffers[name] = self._cuda("cudaMalloc", size)
        self._shapes[name] = shape
        self._context.set_tensor_address(name, int(self._buffers[name]))

    def _execute(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise BuildRefusedError("the engine does not run on this GPU")

    def _free(self) -> None:
        for buffer in self._buffers.values():
            self._cuda("cudaFree", buffer)
        self._buffers.clear()
        self._context = None
