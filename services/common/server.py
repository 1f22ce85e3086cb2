"""The life of a process: health port, start-up phases, listeners, SIGTERM, drain.

Drain order: readiness off, wait while load balancers notice, refuse new calls as not started, finish what is in flight,
close what was opened (Triton among it), flush telemetry, exit 0.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

import grpc
import uvloop
from starlette.types import ASGIApp

from services.common.errors import ServiceError
from services.common.health import Health
from services.common.http import HttpServer, health_app
from services.common.interceptors import Boundary
from services.common.settings import CommonSettings
from services.common.telemetry import Telemetry

_log = logging.getLogger(__name__)
BACKLOG = 2048
LINGER_SECONDS = 0.3
SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from the event loop: Python's 5 ms add up where one works for long."""
YOUNG_OBJECTS = 10_000
"""Containers made and not yet gone before the garbage collector looks through them."""


class StartupError(Exception):
    """The process cannot start; the message says why and what to do, in one line."""


class Listener(Protocol):
    """A port that takes calls."""

    async def start(self) -> None:
        """Open the port. Raises StartupError when it cannot."""

    async def stop(self, grace: float) -> None:
        """Take no new calls, give those in flight `grace` seconds, then close."""


class GrpcListener:
    """A gRPC server as a listener."""

    def __init__(  # noqa: PLR0913, PLR0917  # what the port stands on
        self,
        server: grpc.aio.Server,
        boundary: Boundary,
        host: str,
        port: int,
        credentials: grpc.ServerCredentials | None = None,
        goaway_first: bool = False,
    ) -> None:
        """`credentials` are those of TLS; without any the port speaks plain text. `goaway_first`: see `stop`."""
        self._server, self._boundary, self._host, self.port = server, boundary, host, port
        self._credentials, self._goaway_first = credentials, goaway_first

    async def start(self) -> None:
        """Open the port."""
        _bound(self._host, self.port).close()  # gRPC itself would write of a failure to stderr
        try:
            address = f"{_bracketed(self._host)}:{self.port}"
            if self._credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise StartupError(f"cannot listen on {self._host}:{self.port} for gRPC: {error}") from None
        await self._server.start()
        _log.info("gRPC listens on %s:%d", self._host, self.port)

    async def stop(self, grace: float) -> None:
        """Finish calls in flight, then close.

        gRPC sends GOAWAY as soon as it stops and lets calls finish, but cancels what crosses the GOAWAY on its way,
        and closes a connection after its last call without waiting until the caller has read the answer, which can
        lose the end of a large one. So it stops only once nothing runs here; meanwhile the boundary refuses what
        arrives as not started, and the gateway makes such a call anew. Other callers would be refused call after
        call: with `goaway_first` they are told at once to make the next one on another connection.
        """
        if self._goaway_first:
            await self._server.stop(grace)
            return
        deadline = time.monotonic() + grace
        await asyncio.sleep(min(grace, LINGER_SECONDS))
        await self._boundary.idle(deadline - time.monotonic())
        await asyncio.sleep(min(grace, LINGER_SECONDS))
        await self._server.stop(max(0.0, deadline - time.monotonic()))


class HttpListener:
    """An ASGI app on a uvicorn server as a listener."""

    def __init__(self, app: ASGIApp, host: str, port: int, **options: object) -> None:
        self._host, self.port = host, port
        self._http = HttpServer(app, host, port, **options)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the port."""
        listening = _bound(self._host, self.port)
        self.port = listening.getsockname()[1]
        self._serving = asyncio.create_task(self._http.serve(sockets=[listening]))
        _log.info("HTTP listens on %s:%d", self._host, self.port)

    async def stop(self, grace: float) -> None:
        """Take no new connections, finish requests in flight, then close.

        A connection without a request may have one on its way, and closing it would lose that: it has a moment.
        """
        if self._serving is None:
            return
        for server in self._http.servers:
            server.close()
        deadline = time.monotonic() + min(grace, LINGER_SECONDS)
        while self._http.server_state.connections and time.monotonic() < deadline:  # noqa: ASYNC110  # uvicorn tells nobody
            await asyncio.sleep(0.01)
        self._http.config.timeout_graceful_shutdown = max(1, round(grace))
        self._http.should_exit = True
        await self._serving


class Lifecycle:
    """Runs one process from its first log line to its exit code."""

    def __init__(self, settings: CommonSettings, health: Health, telemetry: Telemetry) -> None:
        self.health, self.telemetry = health, telemetry
        show_readiness(health, telemetry)
        self.closing = AsyncExitStack()
        self.draining = asyncio.Event()
        """Set once new calls are refused, and those in flight have the grace period to finish."""
        self._settings = settings
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def refusing(self) -> bool:
        """Whether new calls are refused."""
        return self.draining.is_set()

    async def run(
        self,
        health_port: tuple[str, int],
        start: Callable[[], Awaitable[Sequence[Listener]]],
        passed_on: Callable[[], Awaitable[str]] | None = None,
    ) -> int:
        """Run until SIGTERM or SIGINT and return the exit code.

        `start` prepares everything (its phases show on the health port meanwhile), pushes what must be closed onto
        `closing`, and returns the listeners, which are opened once it is done.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._signalled)
        health_listener = HttpListener(health_app(self.health, self.telemetry, passed_on), *health_port)
        opened: list[Listener] = []
        try:
            await health_listener.start()
            await self._start(start, opened)
            await self._stop.wait()
            if opened:
                await self._drain(opened)
            return 0
        except (StartupError, ServiceError, OSError) as error:
            _log.error("cannot start: %s", error)
            return 1
        except Exception:
            _log.exception("cannot start: unexpected failure")
            return 1
        finally:
            await self.closing.aclose()
            await health_listener.stop(1)
            await asyncio.to_thread(self.telemetry.close)
            _log.info("stopped")

    async def _start(self, start: Callable[[], Awaitable[Sequence[Listener]]], opened: list[Listener]) -> None:
        starting = asyncio.ensure_future(start())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        for listener in starting.result():
            await listener.start()
            opened.append(listener)
        _spare_what_stays()
        await self.health.open()
        _log.info("ready: %s", self.health.message)

    async def _drain(self, opened: Sequence[Listener]) -> None:
        _log.info("draining: readiness is off")
        await self.health.drain()
        try:
            async with asyncio.timeout(self._settings.drain_propagation_seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass
        self.draining.set()
        _log.info("draining: finishing calls in flight")
        await self.health.close()
        await asyncio.gather(*(listener.stop(self._settings.drain_grace_seconds) for listener in opened))

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()


def show_readiness(health: Health, telemetry: Telemetry) -> None:
    """Register what is measured of readiness and of start-up."""
    telemetry.gauge("flotilla_ready", "1 while new work is welcome, else 0.", lambda: health.ready)
    for name, phase in health.phases.items():
        telemetry.gauge(
            "flotilla_startup_phase_duration_seconds",
            "Time a phase of start-up has taken, so far where it runs.",
            partial(attrgetter("seconds"), phase),
            {"phase": name},
        )


def _spare_what_stays() -> None:
    """Have the garbage collector leave alone what start-up has made: to look through it all takes tens of milliseconds.

    What requests make is nearly all gone by the time it is looked for; to look less often costs little memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def run(main: Callable[[], Awaitable[int]]) -> int:
    """Run `main` on a fresh event loop and return its exit code."""
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())  # type: ignore[arg-type]


def grpc_server(max_message_bytes: int, interceptors: Sequence[Any]) -> grpc.aio.Server:
    """Return a gRPC server with Flotilla's limits. Two processes never share a port."""
    return grpc.aio.server(
        interceptors=interceptors,
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
        ],
    )


def _bound(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises StartupError when the address cannot be had."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise StartupError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listening


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
