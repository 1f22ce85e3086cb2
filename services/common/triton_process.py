"""The Triton Inference Server as a child process: start, readiness, restart with back-off, stop.

The embedded default is the genuine tritonserver of the nvidia-pytriton wheel; on an official Triton image the one in
PATH is used. It listens on loopback only, on free ports. A Python stub that dies or hangs does not come back by itself,
so the death of any child of tritonserver restarts the whole, and so does a caller who found that it hangs.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

import psutil

from services.common.ports import free_ports
from services.common.server import StartupError
from services.common.settings import child_environment
from services.common.shared_memory import SHARED_MEMORY, check_shared_memory
from services.common.tether import tethered
from services.common.triton import TritonClient

_log = logging.getLogger("triton")
_LEVELS = {"I": logging.DEBUG, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_LINE = re.compile(r"^([IWEF])\d{4} [\d:.]+ \d+ (?P<source>\S+?)\] ?(?P<text>.*)$")
_HARMLESS = (
    "unable to create stream",
    "Unable to allocate pinned system memory",
    "CUDA memory pool disabled",
    "CudaDriverHelper",
    "DCGM unable",
    "Exit timeout expired",
    "HandleCancellation called even when",
    "pinned system memory",
)

_SILENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}
"""Engines in Triton report to nobody and fetch nothing."""
START_SECONDS = 300.0
RESTART_SECONDS = 30.0
RESTART_FACTOR = 5.0
"""A restart is given up, and tried again with twice the time, after so many times what the first start took, and no
sooner than RESTART_SECONDS: once in a few hundred starts Triton had its stubs and yet never listened."""
STABLE_SECONDS = 60.0
BACKOFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
POLL_SECONDS = 0.25
LOG_LINE_BYTES = 1 << 20
_NEVER_BY_ITSELF = 2**31 - 1
"""Triton samples one in so many requests; those with a `traceparent` always."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A tritonserver that can be started: the program, its backends and what its loader needs."""

    program: Path
    backends: Path
    library_path: str


def find_binary(work: Path) -> Binary:
    """Return the Triton of this machine; `work` is a folder for the backend tree of the embedded one.

    Raises StartupError when there is none.
    """
    official = Path("/opt/tritonserver/bin/tritonserver")
    if official.exists():
        return Binary(official, Path("/opt/tritonserver/backends"), child_environment().get("LD_LIBRARY_PATH", ""))
    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise StartupError("no Triton Inference Server found: install the extra `triton`, or set ..._TRITON_URL")
    package = Path(spec.origin).parent
    server = package / "tritonserver"
    stub = (
        server
        / "python_backend_stubs"
        / f"{sys.version_info.major}.{sys.version_info.minor}"
        / "triton_python_backend_stub"
    )
    if not stub.exists():
        raise StartupError(f"the embedded Triton has no Python stub for this Python ({stub})")
    backend = work / "backends" / "python"
    shutil.rmtree(backend, ignore_errors=True)
    shutil.copytree(server / "backends" / "python", backend)
    shutil.copy2(stub, backend)
    libraries = (str(package.parent / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR")))
    return Binary(server / "bin" / "tritonserver", work / "backends", ":".join(libraries))


def _tracing(url: str) -> list[str]:
    """Return the options that have Triton post spans to `url`, with queue and compute times as their events."""
    options = ("mode=opentelemetry", "level=TIMESTAMPS", f"rate={_NEVER_BY_ITSELF}", f"opentelemetry,url={url}")
    resource = "opentelemetry,resource=service.name=flotilla-triton"
    return [f"--trace-config={option}" for option in (*options, resource)]


class TritonProcess:
    """Keeps one tritonserver running over a model repository.

    `on_down(why)` and `on_up()` are awaited when it goes and when it is ready again. `traces_url` is where it posts its
    spans by OTLP: of calls that come with a `traceparent`, and of no others.
    """

    def __init__(
        self,
        repository: Path,
        work: Path,
        on_down: Callable[[str], Awaitable[None]],
        on_up: Callable[[], Awaitable[None]],
        traces_url: str | None = None,
    ) -> None:
        self._repository, self._work = repository, work
        self._on_down, self._on_up = on_down, on_up
        self._traces_url = traces_url
        self._process: subprocess.Popen[bytes] | None = None
        self._children: list[psutil.Process] = []
        self._logs: asyncio.Task[None] | None = None
        self._last_error = ""
        self._hangs = ""
        self.restarts = 0
        self.grpc_port, self.metrics_port = free_ports(2)
        self._memory_prefix = f"flotilla_{hashlib.sha256(bytes(work.resolve())).hexdigest()[:12]}_"

    @property
    def url(self) -> str:
        """host:port of the gRPC interface. It stays the same over restarts."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Address of Triton's own Prometheus metrics."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def restart(self, why: str) -> None:
        """Restart it as if it had died: it hangs."""
        self._hangs = why

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start Triton, wait until every model is ready, keep it running while the block runs, then stop it.

        Raises StartupError with Triton's own reason when it does not become ready.
        """
        check_shared_memory()
        binary = find_binary(self._work)
        try:
            began = time.monotonic()
            process = await self._start(binary, START_SECONDS)
            patience = max(RESTART_SECONDS, RESTART_FACTOR * (time.monotonic() - began))
            supervisor = asyncio.create_task(self._supervise(binary, process, patience))
            try:
                yield
            finally:
                supervisor.cancel()
                await asyncio.wait({supervisor})
        finally:
            await self._stop()

    async def _start(self, binary: Binary, patience: float) -> subprocess.Popen[bytes]:
        venv_bin = str(Path(sys.executable).parent)  # the stub takes its packages from the first bin of PATH
        environment = {
            "PATH": f"{venv_bin}:/usr/local/bin:/usr/bin:/bin",
            "HOME": "/",
            **child_environment(),
            "LD_LIBRARY_PATH": binary.library_path,
            "PYTHONNOUSERSITE": "1",
            **_SILENT,
        }
        self._last_error = ""
        self._free_memory()
        command = tethered(
            signal.SIGKILL,
            str(binary.program),
            f"--model-repository={self._repository}",
            f"--backend-directory={binary.backends}",
            "--disable-auto-complete-config",
            "--allow-http=false",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.grpc_port}",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={self.metrics_port}",
            "--exit-timeout-secs=0",  # calls have been finished before it is stopped; it polls in whole seconds
            f"--backend-config=python,shm-region-prefix-name={self._memory_prefix}",
            "--log-verbose=0",
            *(_tracing(self._traces_url) if self._traces_url else ()),
        )
        # Not asyncio's own start of a process, which forks; Popen without a preexec_fn uses vfork: no fork handlers.
        self._process = subprocess.Popen(  # noqa: ASYNC220  # the kernel ties it to the thread that starts it
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for the parent, which drains first
        )
        self._logs = asyncio.create_task(self._fold_logs(self._process))
        await self._wait_ready(self._process, patience)
        self._children = psutil.Process(self._process.pid).children(recursive=True)
        self._hangs = ""  # what was said of the one before
        _log.info("Triton is ready: %s, %d stubs", self.url, len(self._children))
        return self._process

    async def _wait_ready(self, process: subprocess.Popen[bytes], patience: float) -> None:
        deadline = time.monotonic() + patience
        async with TritonClient(self.url) as client:
            while not await client.server_ready():
                if process.poll() is not None:
                    await asyncio.sleep(POLL_SECONDS)  # let the last log lines arrive
                    raise StartupError(f"Triton exited with {process.returncode}: {self._last_error or 'see its log'}")
                if time.monotonic() > deadline:
                    why = self._last_error or "it does not say why"
                    raise StartupError(f"Triton is not ready after {patience:.0f} s: {why}")
                await asyncio.sleep(0.05)

    async def _supervise(self, binary: Binary, process: subprocess.Popen[bytes], patience: float) -> None:
        failures, ready_since = 0, time.monotonic()
        while True:
            why = await self._wait_for_death(process)
            await self._on_down(why)
            _log.error("%s; restarting", why)
            await self._stop(grace=0)
            failures = 0 if time.monotonic() - ready_since > STABLE_SECONDS else failures
            while True:
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                given = min(START_SECONDS, patience * 2**failures)
                failures += 1
                self.restarts += 1
                try:
                    process = await self._start(binary, given)
                except Exception as error:
                    _log.error("restart failed: %s", error, exc_info=not isinstance(error, StartupError))
                    await self._stop(grace=0)
                else:
                    break
            ready_since = time.monotonic()
            await self._on_up()

    async def _wait_for_death(self, process: subprocess.Popen[bytes]) -> str:
        try:
            while process.poll() is None:
                await asyncio.sleep(POLL_SECONDS)
                if self._hangs:
                    return self._hangs
                for child in self._children:
                    if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE:
                        return f"Triton's child process {child.pid} has died"
            return f"Triton has died (exit code {process.returncode})"
        except psutil.NoSuchProcess as error:
            return f"Triton's child process {error.pid} has died"

    async def _stop(self, grace: float = 35.0) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM if grace else signal.SIGKILL)
        deadline = time.monotonic() + grace
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            await asyncio.sleep(0.02)
        for child in self._children:  # stubs of a killed server
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        with contextlib.suppress(ProcessLookupError):  # those of one that died before it was ready
            os.killpg(process.pid, signal.SIGKILL)
        self._children = []
        self._free_memory()
        if self._logs is not None:
            await asyncio.wait({self._logs}, timeout=2)
            self._logs.cancel()
        self._process = None

    def _free_memory(self) -> None:
        """Remove the shared memory of stubs that were killed, those of an earlier process on our folder too."""
        for region in SHARED_MEMORY.glob(f"{self._memory_prefix}*"):
            region.unlink(missing_ok=True)

    async def _fold_logs(self, process: subprocess.Popen[bytes]) -> None:
        output = asyncio.StreamReader(limit=LOG_LINE_BYTES)
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), cast("IO[bytes]", process.stdout)
        )
        with contextlib.closing(pipe):
            while line := await output.readline():
                self._fold(line.decode(errors="replace").rstrip())

    def _fold(self, text: str) -> None:
        match = _LINE.match(text)
        level = _LEVELS[match[1]] if match else logging.DEBUG
        if match and any(known in text for known in _HARMLESS):
            level = logging.DEBUG
        if level >= logging.ERROR and match:
            self._last_error = match["text"].strip('" ')
        _log.log(level, "%s", match["text"].strip('"') if match else text)
