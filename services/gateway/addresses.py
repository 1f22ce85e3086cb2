"""One address of a service: its channel, the calls in flight, and what its health stream last said."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.triton import channel_options
from services.gateway.resolution import Endpoint

_log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 1.0
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # also the limit of one connect attempt
]


class Address:
    """A channel and the `grpc.health.v1` Watch stream that says whether it may get calls."""

    def __init__(self, endpoint: Endpoint, max_message_bytes: int, changed: Callable[[], None]) -> None:
        """`changed` is called whenever the answer of `serving` may be another."""
        self.endpoint = endpoint
        self.in_flight = 0
        self.attempts = 0  # finished attempts to learn the state: heard from, or failed
        self.came_up = 0  # times it began to serve
        self.answered = False  # whether the health stream is up
        self.message = "connecting"
        options = [*channel_options(max_message_bytes), *_KEEPALIVE, ("grpc.default_authority", endpoint.authority)]
        self.channel = grpc.aio.insecure_channel(endpoint.target, options=options)
        self._serving = False
        self._changed = changed
        self._nudged = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._watching = asyncio.create_task(self._watch(), name=f"watch {endpoint.target}")

    @property
    def serving(self) -> bool:
        """Whether calls are welcome and the connection is up, so that a call made now leaves at once."""
        return self._serving and self.channel.get_state() is grpc.ChannelConnectivity.READY

    @contextmanager
    def leased(self) -> Iterator[grpc.aio.Channel]:
        """Count a call while the block runs."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield self.channel
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    def nudge(self) -> None:
        """Try to connect now instead of after the back-off."""
        self._nudged.set()

    def suspend(self, why: str) -> None:
        """Give it no more calls until its health stream says that it serves."""
        self._heard(False, why)

    async def close(self, grace: float) -> None:
        """Take no new calls, let those in flight finish for `grace` seconds, close the connection."""
        self._serving = False
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        await self.channel.close(None)

    async def _watch(self) -> None:
        health = health_pb2_grpc.HealthStub(self.channel)
        delay = FIRST_RETRY_SECONDS
        while True:
            self._nudged.clear()
            try:
                async for reply in health.Watch(health_pb2.HealthCheckRequest()):
                    delay = FIRST_RETRY_SECONDS
                    self.answered = True
                    serving = reply.status == health_pb2.HealthCheckResponse.SERVING
                    self._heard(serving, "ready" if serving else "not serving")
                self._lost("health stream ended")
            except grpc.aio.AioRpcError as error:
                self._lost(f"{error.code().name}: {error.details()}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)

    def _lost(self, why: str) -> None:
        self.answered = False
        self._heard(False, why)

    def _heard(self, serving: bool, message: str) -> None:
        if serving != self._serving:
            _log.info("%s: %s", self.endpoint.target, message)
            self.came_up += serving
        self._serving, self.message = serving, message
        self.attempts += 1
        self._changed()
