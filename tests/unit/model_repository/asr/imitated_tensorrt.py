"""TensorRT and CUDA as far as the recogniser uses them, imitated on a CPU: plans are ONNX files, addresses are real.

A captured graph keeps the addresses and shapes it was captured with, as CUDA's does: what goes stale shows.
"""

import ctypes
import enum
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32}


class Status(enum.IntEnum):
    OK = 0


class Runtime:
    """cuda.bindings.runtime"""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self) -> None:
        self.areas: dict[int, Any] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self.launches = 0

    def put(self, work: Callable[[], None]) -> None:
        """Do what is put on the stream, or keep it while a graph is captured."""
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = getattr(self, f"_{name[4:]}")(*arguments)
            return (Status.OK,) if result is None else (Status.OK, result)

        if not name.startswith("cuda"):
            raise AttributeError(name)
        return call

    def _SetDevice(self, _device: int) -> None: ...  # noqa: N802

    def _StreamCreate(self) -> int:  # noqa: N802
        return 1

    def _StreamSynchronize(self, _stream: int) -> None: ...  # noqa: N802

    def _Malloc(self, size: int) -> int:  # noqa: N802
        area = (ctypes.c_byte * size)()
        ctypes.memset(area, 0x7F, size)  # what nobody has written is no zero
        self.areas[ctypes.addressof(area)] = area
        return ctypes.addressof(area)

    def _Free(self, address: int) -> None:  # noqa: N802
        ctypes.memset(address, 0x7F, ctypes.sizeof(self.areas[address]))
        self.areas[-address] = self.areas.pop(address)  # stays ours: a stale address must be wrong, not deadly

    def _MemsetAsync(self, address: int, value: int, size: int, _stream: int) -> None:  # noqa: N802
        ctypes.memset(address, value, size)

    def _MemcpyAsync(self, to: int, source: int, size: int, _kind: int, _stream: int) -> None:  # noqa: N802
        ctypes.memmove(to, source, size)

    def _StreamBeginCapture(self, _stream: int, _mode: int) -> None:  # noqa: N802
        self.capturing = []

    def _StreamEndCapture(self, _stream: int) -> Any:  # noqa: N802
        captured, self.capturing = self.capturing, None
        return captured

    def _GraphInstantiate(self, graph: Any, _flags: int) -> Any:  # noqa: N802
        return graph

    def _GraphLaunch(self, graph: Any, _stream: int) -> None:  # noqa: N802
        self.launches += 1
        for work in graph:
            work()

    def _GraphDestroy(self, _graph: Any) -> None: ...  # noqa: N802

    def _GraphExecDestroy(self, _graph: Any) -> None: ...  # noqa: N802


class Engine:
    """ICudaEngine over an ONNX file."""

    def __init__(self, runtime: Runtime, path: str) -> None:
        self.runtime, self.session = runtime, ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = {tensor.name: tensor for tensor in self.session.get_inputs()}
        self.tensors = {**self.inputs, **{tensor.name: tensor for tensor in self.session.get_outputs()}}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, number: int) -> str:
        return list(self.tensors)[number]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def get_tensor_dtype(self, name: str) -> Any:
        return DTYPES[self.tensors[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self.tensors[name].shape)

    def create_execution_context(self) -> "Context":
        return Context(self)


class Context:
    """IExecutionContext"""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, _stream: int) -> None:
        assert profile in (0, 1)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        declared = self.engine.get_tensor_shape(name)
        assert len(shape) == len(declared) and all(b in (-1, a) for a, b in zip(shape, declared, strict=True)), name
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def get_tensor_address(self, name: str) -> int:
        return self.addresses[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        sizes = {
            axis: size
            for tensor, shape in self.shapes.items()
            for axis, size in zip(self.engine.inputs[tensor].shape, shape, strict=True)
        }
        if "frames" in sizes:
            sizes["audio_positions"] = (sizes["frames"] + 1) // 2
        else:
            sizes |= {"answers": sizes["answers"], "queries": sizes["rows"] * sizes["steps"] // sizes["windows"]}
        return tuple(size if isinstance(size, int) else sizes[size] for size in self.engine.tensors[name].shape)

    def execute_async_v3(self, _stream: int) -> bool:
        shapes = {name: self.get_tensor_shape(name) for name in self.engine.tensors}
        addresses = dict(self.addresses)

        def work() -> None:
            feed = {name: self._array(name, addresses[name], shapes[name]).copy() for name in self.engine.inputs}
            names = [name for name in self.engine.tensors if name not in feed]
            for name, value in zip(names, self.engine.session.run(names, feed), strict=True):
                assert value.shape == shapes[name], (name, value.shape, shapes[name])
                ctypes.memmove(addresses[name], np.ascontiguousarray(value).ctypes.data, value.nbytes)

        self.engine.runtime.put(work)
        return True

    def _array(self, name: str, address: int, shape: tuple[int, ...]) -> Any:
        dtype = np.dtype(self.engine.get_tensor_dtype(name))
        content = ctypes.string_at(address, int(np.prod(shape)) * dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(shape)


def modules(runtime: Runtime) -> dict[str, Any]:
    """The modules `tensorrt`, `cuda` and `cuda.bindings`."""
    tensorrt, cuda, bindings = (ModuleType(name) for name in ("tensorrt", "cuda", "cuda.bindings"))
    paths = SimpleNamespace(deserialize_cuda_engine=lambda content: Engine(runtime, content.decode()))
    vars(tensorrt).update(
        Runtime=lambda _logger: paths,
        Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda _self, _level: None}),
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        nptype=lambda dtype: dtype,
    )
    vars(bindings)["runtime"] = runtime
    vars(cuda)["bindings"] = bindings
    return {"tensorrt": tensorrt, "cuda": cuda, "cuda.bindings": bindings}


def write_plans(graphs: Path, folder: Path) -> None:
    """A plan here is the path of its ONNX file."""
    for name in ("encoder", "decoder"):
        (folder / f"{name}.plan").write_text(str(graphs / f"{name}.onnx"))
