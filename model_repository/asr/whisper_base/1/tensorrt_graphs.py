"""Both graphs as TensorRT plans: fixed shapes, and one CUDA graph for each of those of a step. Not run on a GPU yet.

Batches are as large as the next power of two and windows 30 s long, as Whisper was trained, so that shapes are few. The
past is in two areas that change roles from step to step; all batches use the same memory, one after the other.
"""

import numpy as np
import tensorrt
from cuda.bindings import runtime

from .cuda import Cuda
from .graphs import DECODER, ENCODER, INPUTS, LOGITS, SCORES

FRAMES = 3000
STEP, PROMPT = 0, 1
"""Optimisation profiles of the decoder: one token, and many."""


class TensorRtGraphs:
    """See graphs.py."""

    def __init__(self, folder, device, most_windows):
        self.trt, self.cuda, self.most_windows = tensorrt, Cuda(runtime, device.number), most_windows
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        self.encoder = Execution(self, self._engine(folder / f"{ENCODER}.plan"), 0)
        decoder = self._engine(folder / f"{DECODER}.plan")
        self.step, self.prompt = (Execution(self, decoder, profile) for profile in (STEP, PROMPT))
        self.cross = [name for name in self.encoder.outputs if name.startswith("cross_")]
        self.pasts = [name for name in self.step.inputs if name.startswith("past_")]

    def windows(self, count):
        return min(self.most_windows, 1 << (count - 1).bit_length())

    def frames(self, _count):
        return FRAMES

    def encode(self, mel):
        self.encoder.run({"mel": mel}, {})
        self.cuda.wait()  # `mel` is the caller's
        return len(mel)

    def past(self, _sound, windows, capacity):
        return _Past(self, windows, capacity)

    def _engine(self, path):
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise RuntimeError(f"{path}: not a plan for this GPU and this release of TensorRT")
        return engine


class Execution:
    """One graph at one optimisation profile."""

    def __init__(self, graphs, engine, profile):
        trt, self.cuda, self.engine = graphs.trt, graphs.cuda, engine
        self.context = engine.create_execution_context()
        self.context.set_optimization_profile_async(profile, int(self.cuda.stream))
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        self.inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]
        self.dtypes = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        self._captured, self._moves = {}, self.cuda.moves

    def run(self, given, areas, key=None):
        """Execute with `given` arrays; other tensors are in the areas of their own name or of that in `areas`.

        `areas` are (area, shape) by tensor, None for the shape of an output. With `key`, which stands for all shapes
        and areas, the execution is one CUDA graph from the second time on. Nothing is waited for.
        """
        for name, array in given.items():
            self.cuda.give(self._bound(name, name, array.shape), array)
        for name, (area, shape) in areas.items():
            if shape is not None:
                self._bound(name, area, shape)
        for name in self.outputs:
            area = areas.get(name, (name, None))[0]
            self._placed(name, area, tuple(self.context.get_tensor_shape(name)))
        if self._moves != self.cuda.moves:
            self._moves = self.cuda.moves
            self._forget()
        self._execute(key)

    def array(self, name):
        """Return an output, once it is there."""
        shape = tuple(self.context.get_tensor_shape(name))
        return self.cuda.take(self.context.get_tensor_address(name), shape, self.dtypes[name])

    def _forget(self):
        for graph in filter(None, self._captured.values()):
            self.cuda.forget(graph)
        self._captured.clear()

    def _bound(self, name, area, shape):
        self.context.set_input_shape(name, shape)
        return self._placed(name, area, shape)

    def _placed(self, name, area, shape):
        address = self.cuda.area(area, int(np.prod(shape)) * self.dtypes[name].itemsize)
        self.context.set_tensor_address(name, address)
        return address

    def _execute(self, key):
        graph = self._captured.get(key)
        if graph is not None:
            self.cuda.launch(graph)
            return
        self._enqueue()
        if key is not None and key in self._captured:  # the first time TensorRT sets things up, which no graph may have
            self._captured[key] = self.cuda.captured(self._enqueue)
        elif key is not None:
            self._captured[key] = None

    def _enqueue(self):
        if not self.context.execute_async_v3(int(self.cuda.stream)):
            raise RuntimeError("TensorRT could not execute the graph")


class _Past:
    def __init__(self, graphs, windows, capacity):
        self.graphs, self.windows, self.rows, self.side = graphs, windows, windows, 0
        engine = graphs.step.engine
        self.shapes, self.sound = {}, {}
        for name in graphs.pasts:
            _rows, heads, _capacity, width = engine.get_tensor_shape(name)
            self.shapes[name] = heads, capacity, width
            size = windows * heads * capacity * width * graphs.step.dtypes[name].itemsize
            graphs.cuda.clear(graphs.cuda.area(self._area(name, 0), size), size)
        for name in graphs.cross:
            self.sound[name] = name, tuple(graphs.encoder.context.get_tensor_shape(name))

    def step(self, tokens, position, wanted, parents=None, *, with_scores=False):
        rows, count = tokens.shape
        parents = np.arange(rows) if parents is None else parents
        arrays = (tokens, np.arange(position, position + count), wanted, parents)
        given = {name: np.ascontiguousarray(array, np.int32) for name, array in zip(INPUTS, arrays, strict=True)}
        areas = dict(self.sound)
        for name, shape in self.shapes.items():
            areas[name] = self._area(name, self.side), (self.rows, *shape)
            areas[name.replace("past", "present", 1)] = self._area(name, 1 - self.side), None
        is_step = count == len(wanted) == 1
        execution = self.graphs.step if is_step else self.graphs.prompt
        capacity = next(iter(self.shapes.values()))[1]
        key = (self.windows, rows, capacity, self.side) if is_step and rows == self.rows else None
        execution.run(given, areas, key)
        self.rows, self.side = rows, 1 - self.side
        logits = execution.array(LOGITS).astype(np.float32, copy=False)
        return logits, execution.array(SCORES) if with_scores else None

    @staticmethod
    def _area(name, side):
        return f"{name}/{side}"
