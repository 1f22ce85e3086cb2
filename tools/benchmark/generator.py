"""The load generator: clients in a process of its own, whose CPU time is reported with the result.

Clients are closed-loop, each with one request at a time, or requests leave at a fixed rate whatever has come back.

Reads a pickled Job from standard input, writes a pickled Measurement. All payloads are encoded beforehand and answers
are only checked for success and kept as bytes, so that it measures the server and not itself.
"""

import asyncio
import io
import itertools
import os
import pickle
import resource
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Send = Callable[[Any], Awaitable[None]]
Preparation = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Post:
    """An HTTP request, encoded, and the status of a right answer."""

    path: str
    body: bytes
    content_type: str = "application/json"
    status: int = 200
    leave_after: int | None = None
    """Disconnect after so many bytes of the answer, where it is that long."""
    end: bytes = b""
    """What a right answer ends with."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to send where. `kind` is http, grpc, onnxruntime, rapidocr or faster-whisper.

    `target` is a base URL, host:port, model.onnx, or a model's folder. Payloads are Posts, messages in bytes, what
    `preparation` turns into the inputs of the graph, or files. `method` is that of a gRPC call, and of faster-whisper
    "batched" or nothing.
    """

    kind: str
    target: str
    payloads: Sequence[Any]
    clients: int
    seconds: float
    method: str = ""
    warmup_seconds: float = 1.0
    limit: int | None = None
    """Stop after so many requests instead of after `seconds`."""
    arrivals: float | None = None
    """Requests that leave each second, evenly spaced, instead of from `clients`."""
    key: str = ""
    """API key that goes with every request."""
    preparation: Callable[[], Preparation] | None = None
    """Returns, in the generator's process, what makes the graph's inputs of a payload; its time counts."""
    python: str = sys.executable
    """Interpreter of the generator's process: a peer in process has an environment of its own."""


@dataclass(slots=True)
class Measurement:
    """What came of it. Latencies in seconds, CPU in cores used by the generator."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""
    seconds: float = 0.0
    generator_cores: float = 0.0
    sent: int = 0
    """All requests, those of the warm-up among them."""

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0


class _Clock:
    """Decides when the measurement begins and ends, and counts."""

    def __init__(self, job: Job) -> None:
        self._job, self.result = job, Measurement()
        self._began = 0.0
        self._cpu: float | None = None
        self._lock = threading.Lock()
        self._next = 0

    def start(self) -> None:
        """Begin the warm-up; call it when everything is loaded."""
        self._began = time.perf_counter() + self._job.warmup_seconds

    def take(self) -> Any | None:
        """Return the next payload, or None when it is over."""
        now = time.perf_counter()
        with self._lock:
            if self._cpu is None and now >= self._began:
                self._began, self._cpu = now, cpu_seconds()
            limit = self._job.limit
            if (now > self._began + self._job.seconds) if limit is None else self._next >= limit:
                return None
            self._next += 1
            return self._job.payloads[(self._next - 1) % len(self._job.payloads)]

    def done(self, started: float, error: str = "") -> None:
        """Count one request that was sent at `started`."""
        with self._lock:
            if started < self._began:
                return
            if error:
                self.result.errors += 1
                self.result.first_error = self.result.first_error or error
            else:
                self.result.latencies.append(time.perf_counter() - started)

    def finish(self) -> Measurement:
        """Return the result; call it when all clients have ended."""
        self.result.seconds = time.perf_counter() - self._began
        self.result.generator_cores = (cpu_seconds() - (self._cpu or 0.0)) / self.result.seconds
        self.result.sent = self._next
        return self.result


async def _run_clients(job: Job, clock: _Clock, send: Send) -> None:
    async def one(payload: Any) -> None:
        started = time.perf_counter()
        try:
            await send(payload)
        except Exception as error:  # every failure is counted and the first one shown
            clock.done(started, f"{type(error).__name__}: {error}"[:300])
        else:
            clock.done(started)

    async def client() -> None:
        while (payload := clock.take()) is not None:
            await one(payload)

    clock.start()
    if job.arrivals is None:
        await asyncio.gather(*(client() for _ in range(job.clients)))
        return
    began = time.perf_counter()
    async with asyncio.TaskGroup() as running:
        for number in itertools.count():
            await asyncio.sleep(max(0.0, began + number / job.arrivals - time.perf_counter()))
            if (payload := clock.take()) is None:
                break
            running.create_task(one(payload))


async def _http(job: Job, clock: _Clock) -> None:
    import aiohttp  # noqa: PLC0415

    connector = aiohttp.TCPConnector(limit=0)
    credentials = {"Authorization": f"Bearer {job.key}"} if job.key else {}
    async with aiohttp.ClientSession(connector=connector, skip_auto_headers=["User-Agent"]) as session:

        async def send(post: Post) -> None:
            headers = {"Content-Type": post.content_type, **credentials}
            async with session.post(job.target + post.path, data=post.body, headers=headers) as response:
                if post.leave_after is not None and response.status == post.status:
                    with suppress(asyncio.IncompleteReadError):
                        await response.content.readexactly(post.leave_after)
                        response.close()
                    return
                answer = await response.read()
                if response.status != post.status or not answer.endswith(post.end):
                    raise RuntimeError(f"{response.status} {answer[:200]!r}")

        await _run_clients(job, clock, send)


async def _grpc(job: Job, clock: _Clock) -> None:
    import grpc  # noqa: PLC0415

    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(job.target, options=options) as channel:
        call: Any = channel.unary_unary(job.method, None, None)
        metadata = (("authorization", f"Bearer {job.key}"),) if job.key else ()

        async def send(body: bytes) -> None:
            await call(body, metadata=metadata)

        await _run_clients(job, clock, send)


def _onnxruntime(job: Job, clock: _Clock) -> None:
    """The engine alone: as many single-threaded sessions as there are CPUs, or clients where those are fewer."""
    import onnxruntime  # noqa: PLC0415

    from services.common.cpu import available_cpus  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1

    prepare = job.preparation() if job.preparation else lambda payload: payload

    def worker(session: Any) -> None:
        while (payload := clock.take()) is not None:
            started = time.perf_counter()
            session.run(None, prepare(payload))
            clock.done(started)

    count = min(job.clients, available_cpus())
    sessions = [onnxruntime.InferenceSession(job.target, options) for _ in range(count)]
    threads = [threading.Thread(target=worker, args=(session,)) for session in sessions]
    clock.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _rapidocr(job: Job, clock: _Clock) -> None:
    """The peer for text in process: one page after the other, each graph with as many threads as there are CPUs."""
    from rapidocr import RapidOCR  # noqa: PLC0415

    from services.common.cpu import available_cpus  # noqa: PLC0415

    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": available_cpus()}
    reader = RapidOCR(params={"Global.log_level": "error", **threads})
    reader(job.payloads[0])
    clock.start()
    while (payload := clock.take()) is not None:
        started = time.perf_counter()
        reader(payload)
        clock.done(started)


def _faster_whisper(job: Job, clock: _Clock) -> None:
    """The engine of speech in process: one file after the other, the windows of a file in batches where asked for."""
    import numpy  # noqa: PLC0415
    from faster_whisper import BatchedInferencePipeline, WhisperModel  # noqa: PLC0415

    from services.common.cpu import available_cpus  # noqa: PLC0415

    model = WhisperModel(job.target, device="cpu", compute_type="int8", cpu_threads=available_cpus())
    pipeline, options = (model, {}) if job.method != "batched" else (BatchedInferencePipeline(model), {"batch_size": 8})

    def transcribe(file: bytes) -> str:
        segments, _ = pipeline.transcribe(io.BytesIO(file), language="en", beam_size=1, vad_filter=True, **options)
        return " ".join(segment.text for segment in segments)

    list(model.transcribe(numpy.zeros(16_000, dtype=numpy.float32))[0])
    clock.start()
    while (payload := clock.take()) is not None:
        started = time.perf_counter()
        transcribe(payload)
        clock.done(started)


def cpu_seconds() -> float:
    """Return the CPU time this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


_IN_PROCESS = {"onnxruntime": _onnxruntime, "rapidocr": _rapidocr, "faster-whisper": _faster_whisper}


def run(job: Job) -> Measurement:
    """Run a job in this process."""
    clock = _Clock(job)
    if job.kind in _IN_PROCESS:
        _IN_PROCESS[job.kind](job, clock)
    else:
        import uvloop  # noqa: PLC0415

        work = {"http": _http, "grpc": _grpc}[job.kind]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(job, clock))
    return clock.finish()


async def measure(job: Job) -> Measurement:
    """Run a job in a process of its own."""
    with TemporaryFile() as result:  # a pipe would have to be read while the job runs
        process = await asyncio.create_subprocess_exec(
            *(job.python, "-P", "-c", f"from {__name__} import main; main()"),
            stdin=asyncio.subprocess.PIPE,
            stdout=result,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        await process.communicate(pickle.dumps(job))
        if process.returncode:
            raise RuntimeError(f"the load generator exited with {process.returncode}")
        result.seek(0)
        measurement: Measurement = pickle.load(result)  # noqa: S301  # our own child's output
    return measurement


def main() -> None:
    """Read a Job, write its Measurement."""
    sys.stdout.buffer.write(pickle.dumps(run(pickle.load(sys.stdin.buffer))))  # noqa: S301  # our own parent's input
