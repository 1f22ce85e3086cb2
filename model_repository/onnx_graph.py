"""Any ONNX graph with one input whose first axes are batch, height and width, on ONNX Runtime, one thread an instance.

Tensor names come from the configuration. Its parameters bound what a raw client may send and what runs at once:
  multiple_of     both sides must be multiples of it (1)
  max_side        longest side in pixels (no bound)
  max_pixels      largest height x width (no bound)
  pixels_at_once  a batch with more pixels is run in several parts, which is no slower on one thread and bounds memory
  pixels_kept     after a larger height x width the memory goes back to the system, which costs a few percent

Once nothing has come for IDLE_SECONDS, all memory but the weights goes back.
"""

import ctypes
import json
import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

UNBOUNDED = 2**31
IDLE_SECONDS = 3.0
_C_LIBRARY = ctypes.CDLL(None)


class TritonPythonModel:
    """One tensor [batch, height, width, ...] in, every output of the configuration out."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.input = config["input"][0]["name"]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        limits = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.multiple = int(limits.get("multiple_of", 1))
        self.max_side = int(limits.get("max_side", UNBOUNDED))
        self.max_pixels = int(limits.get("max_pixels", UNBOUNDED))
        self.pixels_at_once = int(limits.get("pixels_at_once", UNBOUNDED))
        self.pixels_kept = int(limits.get("pixels_kept", UNBOUNDED))
        self.give_back = ort.RunOptions()
        self.give_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Noise makes activations so small that a CPU works on them ten times as long as on others.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.least = None
        self.rest = Rest(self._empty)
        self.rest.start()

    def execute(self, requests):
        """Run all requests as one batch: Triton merges only requests of one shape."""
        batches = [pb_utils.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        fault = self._fault(batches[0].shape)
        if fault:
            error = pb_utils.TritonError(f"invalid argument: {fault}", pb_utils.TritonError.INVALID_ARG)
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        borders = np.cumsum([len(batch) for batch in batches])[:-1]
        results = [np.split(rows, borders) for rows in self._run(np.concatenate(batches))]
        self.rest.worked()
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, rows) for name, rows in zip(self.outputs, parts, strict=True)]
            )
            for parts in zip(*results, strict=True)
        ]

    def finalize(self):
        """Stop the thread that waits for rest."""
        self.rest.close()

    def _empty(self):
        """Give memory back: the arena does it at the end of a run only, so one picture is run."""
        self.session.run(self.outputs, {self.input: self.least}, self.give_back)
        _C_LIBRARY.malloc_trim(0)

    def _run(self, batch):
        """Return the outputs for a batch, computed as many rows at a time as the configuration allows."""
        pixels = batch.shape[1] * batch.shape[2]
        if self.least is None or pixels < self.least.shape[1] * self.least.shape[2]:
            self.least = batch[:1].copy()
        rows = max(1, self.pixels_at_once // pixels)
        options = self.give_back if pixels > self.pixels_kept else None
        parts = [
            self.session.run(self.outputs, {self.input: batch[start : start + rows]}, options)
            for start in range(0, len(batch), rows)
        ]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _fault(self, shape):
        """Return what is wrong with a shape that a raw client may have sent, or None."""
        height, width = shape[1:3]
        if 0 in shape:
            return f"{self.input}: shape {list(shape)} is empty"
        if height % self.multiple or width % self.multiple:
            return f"{self.input}: {height} x {width} pixels are not multiples of {self.multiple}"
        if max(height, width) > self.max_side:
            return f"{self.input}: {height} x {width} pixels; the longest side may have {self.max_side}"
        if height * width > self.max_pixels:
            return f"{self.input}: {height} x {width} pixels are more than {self.max_pixels}"
        return None


class Rest(threading.Thread):
    """Calls a function once after every stretch of work, when IDLE_SECONDS have passed without any."""

    def __init__(self, act):
        super().__init__(name="rest", daemon=True)
        self._act, self._work, self._closed = act, threading.Event(), threading.Event()

    def worked(self):
        """Say that there was work just now."""
        self._work.set()

    def close(self):
        """End the thread."""
        self._closed.set()
        self._work.set()
        self.join()

    def run(self):
        """Wait for work, then for its end; again and again."""
        while True:
            self._work.wait()
            while self._work.is_set():
                self._work.clear()
                if self._closed.wait(IDLE_SECONDS):
                    return
            self._act()
