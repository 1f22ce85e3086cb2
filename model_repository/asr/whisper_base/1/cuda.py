"""Memory and graphs on an NVIDIA GPU, by CUDA's own names. Not run on a GPU yet."""

import numpy as np


class CudaError(Exception):
    """A call of CUDA that failed."""


class Cuda:
    """The CUDA runtime on one device, with one stream for all work."""

    def __init__(self, api, device_id):
        """`api` is the module cuda.bindings.runtime."""
        self.api = api
        self("cudaSetDevice", device_id)
        self.stream = self("cudaStreamCreate")
        self.moves = 0
        """Counts how often an area has moved: what was captured before has old addresses in it."""
        self._areas = {}

    def __call__(self, function, *arguments):
        status, *values = getattr(self.api, function)(*arguments)
        if int(status) != 0:
            raise CudaError(f"{function}: {status.name}")
        return values[0] if values else None

    def area(self, name, size):
        """Return the address of an area of at least `size` bytes. What grows moves, and loses its content."""
        address, room = self._areas.get(name, (None, 0))
        if room < size:
            if address is not None:
                self.wait()
                self("cudaFree", self._areas.pop(name)[0])
            address = int(self("cudaMalloc", size))
            self._areas[name] = address, size
            self.moves += 1
        return address

    def clear(self, address, size):
        """Set memory to zero, in the order of the stream."""
        self("cudaMemsetAsync", address, 0, size, self.stream)

    def give(self, address, array):
        """Copy an array to the device, in the order of the stream; it must live until `wait`."""
        kind = self.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self.stream)

    def take(self, address, shape, dtype):
        """Return an array of the device once all work before is done."""
        array = np.empty(shape, dtype)
        kind = self.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self.stream)
        self.wait()
        return array

    def wait(self):
        """Wait for all work."""
        self("cudaStreamSynchronize", self.stream)

    def captured(self, work):
        """Return one graph of what `work` puts on the stream; it is not executed."""
        self("cudaStreamBeginCapture", self.stream, self.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        finally:
            graph = self("cudaStreamEndCapture", self.stream)
        try:
            return self("cudaGraphInstantiate", graph, 0)
        finally:
            self("cudaGraphDestroy", graph)

    def launch(self, graph):
        """Execute a captured graph, in the order of the stream."""
        self("cudaGraphLaunch", graph, self.stream)

    def forget(self, graph):
        """Free a captured graph."""
        self("cudaGraphExecDestroy", graph)
