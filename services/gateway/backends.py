"""A backend: one service with its addresses. Picks an address, makes the call, retries where that is certainly safe.

It must not know what the messages mean.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from services.common import request_context
from services.common.errors import Kind, ServiceError, from_rpc_error
from services.common.telemetry import SECONDS, Telemetry, inject
from services.gateway.access.caller import First, charged, current
from services.gateway.addresses import Address
from services.gateway.changes import Changes
from services.gateway.ending import Ending
from services.gateway.resolution import Endpoint, resolve
from services.gateway.retry_budget import RetryBudget

_log = logging.getLogger(__name__)

CONNECT_SECONDS = 1.0
FIRST_CONNECT_SECONDS = 5.0
"""At the start, where a gateway that listens before it has heard of its services would refuse what they could take."""
RETRY_AFTER_SECONDS = 1.0
ASK_SECONDS = 2.0

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
_Begin = Callable[[grpc.aio.Channel, float], Any]
"""Makes a call on a channel with a time-out in seconds."""


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """A method: its path "/package.Service/Method" and its messages."""

    path: str
    request: type[Request]
    response: type[Response]


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for every call of a backend."""

    timeout: float = 300.0
    """Deadline in seconds of a call that brings none."""
    hold: float = 0.0
    """How long a call may wait for a ready address, in seconds."""
    max_message_bytes: int = 64 * 1024 * 1024
    """Largest message, in and out."""
    retry_share: float = 0.1
    """Retries per call."""
    resolve_every: float = 5.0
    """Seconds between two resolutions of the names."""


class Backend:
    """One service behind the gateway."""

    def __init__(
        self, name: str, places: Sequence[str], limits: Limits, telemetry: Telemetry, changes: Changes
    ) -> None:
        """`places` are host:port; a name stands for all its addresses. `changes` hears of every change of state."""
        self.name = name
        self.budget = RetryBudget(limits.retry_share)
        self._places, self._limits, self._changes = tuple(places), limits, changes
        self._addresses: dict[Endpoint, Address] = {}
        self._turn = itertools.count()
        self._held = 0
        self._unresolved: str | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._duration = telemetry.histogram(
            "rpc.client.call.duration", "Time of a call to a service, by method and status.", SECONDS, "s"
        )
        self._retries = telemetry.counter("flotilla_gateway_retries", "Calls made a second time, by service.")
        if self.deployed:  # of one that is no part of this fleet nobody is to be told that it is away
            gauge, labels = telemetry.gauge, {"service": name}
            gauge("flotilla_gateway_serving", "Addresses that serve.", lambda: len(self._serving()), labels)
            gauge("flotilla_gateway_held", "Calls held for a ready address.", lambda: self._held, labels)
            gauge("flotilla_gateway_hold_seconds", "How long a call is held.", lambda: limits.hold, labels)

    async def start(self) -> None:
        """Resolve the names, begin to connect, and wait a moment for the first answers."""
        await self._resolve_once()
        self._resolving = asyncio.create_task(self._resolve_forever(), name=f"resolve {self.name}")
        await self._wait_for_serving(FIRST_CONNECT_SECONDS, patient=False)

    async def close(self) -> None:
        """Close every connection."""
        if self._resolving is not None:
            self._resolving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._resolving
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await asyncio.gather(*(address.close(0) for address in self._addresses.values()))

    @property
    def deployed(self) -> bool:
        """Whether the settings name any address of it."""
        return bool(self._places)

    @property
    def timeout(self) -> float:
        """Deadline in seconds of a call that brings none."""
        return self._limits.timeout

    @property
    def serving(self) -> bool:
        """Whether any address serves."""
        return any(address.serving for address in self._addresses.values())

    @property
    def generation(self) -> tuple[tuple[str, int], ...]:
        """The addresses that serve, and since which time: another value means that what is loaded may be another."""
        return tuple(sorted((address.endpoint.target, address.came_up) for address in self._serving()))

    @property
    def message(self) -> str:
        """One line that says why it serves or does not."""
        if self.serving:
            return "ready"
        if not self._places:
            return "it is not part of this fleet"
        if not self._addresses:
            return self._unresolved or "no address"
        return "; ".join(f"{address.endpoint.target}: {address.message}" for address in self._addresses.values())

    @property
    def holds(self) -> bool:
        """Whether calls wait for it to be started: that it does not serve is no reason to send them away."""
        return self._limits.hold > 0

    async def pick(self, excluding: Address | None = None, deadline: float = math.inf, *, hold: bool = True) -> Address:
        """Return the serving address with the fewest calls in flight.

        Waits for one as long as the settings say, but not beyond `deadline` of the monotonic clock, and not at all
        without `hold`. Raises UNAVAILABLE when there is none in time.
        """
        serving = self._serving(excluding)
        if not serving and excluding is None and hold:
            await self._hold(deadline)
            serving = self._serving()
        if not serving:
            raise self.unavailable()
        fewest = min(address.in_flight for address in serving)
        least = [address for address in serving if address.in_flight == fewest]
        return least[next(self._turn) % len(least)]

    def unavailable(self) -> ServiceError:
        """Return the error for a service that nobody serves now."""
        return ServiceError(
            Kind.UNAVAILABLE,
            f"service '{self.name}' is not available ({self.message}); try again in a moment",
            code="service_unavailable",
            retry_after=RETRY_AFTER_SECONDS,
        )

    async def ask(self, method: Method[Request, Response], request: Request) -> Response:
        """Make a call of the gateway's own, with the deadline ASK_SECONDS. It is not held: it must start no service."""
        return await self.call(method, request, ASK_SECONDS, hold=False)

    async def call(
        self, method: Method[Request, Response], request: Request, timeout: float | None = None, *, hold: bool = True
    ) -> Response:
        """Make a unary call with the deadline `timeout` in seconds; `hold`: see `pick`.

        It is made a second time, on another address, only when the first said that it was not started.
        """
        async with charged(self.name, method.path, request) as charge:
            deadline = self._deadline(timeout)
            address = await self.pick(deadline=deadline, hold=hold)
            try:
                reply = await self._call_once(address, method, request, deadline)
            except ServiceError as error:
                if not self.may_retry(address, error):
                    raise
                address = await self._other(address, error)
                reply = await self._call_once(address, method, request, deadline)
            charge.count(reply)
            return reply

    def stream(
        self,
        method: Method[Request, Response],
        request: Request,
        timeout: float | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> AsyncGenerator[Response, None]:
        """Make a server-streaming call with the deadline `timeout` in seconds and yield its messages.

        `metadata` goes with it beside the gateway's own. Closing the generator cancels the call. It is made a second
        time as `call` is, before the first message.
        """

        def begin(channel: grpc.aio.Channel, timeout: float) -> Any:
            call = channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
            return call(request, timeout=timeout, metadata=(*onward(), *metadata))

        return self._messages(method, begin, timeout, request)

    def exchange(
        self,
        method: Method[Request, Response],
        requests: Callable[[], AsyncIterator[Request]],
        timeout: float | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Make a call that streams both ways, as `stream` does.

        `requests` returns all of them from the first on; the next one is taken when the connection has room for it.
        """

        def begin(channel: grpc.aio.Channel, timeout: float) -> Any:
            call = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
            return call(requests(), timeout=timeout, metadata=onward())

        async def first() -> Request | None:
            return await anext(aiter(requests()), None)

        return self._messages(method, begin, timeout, first)

    def may_retry(self, address: Address, error: ServiceError) -> bool:
        """Whether a call that failed so on `address` certainly did not start and may be made again."""
        if error.kind is not Kind.NOT_STARTED:
            return False
        address.suspend("draining")
        if not self._serving(excluding=address) or not self.budget.take():
            return False
        self._retries.add(1, {"service": self.name})
        return True

    async def _messages(
        self, method: Method[Request, Response], begin: _Begin, timeout: float | None, first: First
    ) -> AsyncGenerator[Response, None]:
        async with charged(self.name, method.path, first) as charge:
            deadline = self._deadline(timeout)
            address, begun, retried = await self.pick(deadline=deadline), False, False
            while True:
                try:
                    async with aclosing(self._messages_once(address, method.path, begin, deadline)) as messages:
                        async for message in messages:
                            begun = True
                            charge.count(message)
                            yield cast(Response, message)
                    return
                except ServiceError as error:
                    if begun or retried or not self.may_retry(address, error):
                        raise
                    address, retried = await self._other(address, error), True

    def _deadline(self, timeout: float | None) -> float:
        """Count a call; return the time of the monotonic clock at which it is over."""
        self.budget.called()
        return time.monotonic() + (timeout if timeout is not None else self._limits.timeout)

    async def _other(self, address: Address, error: ServiceError) -> Address:
        """Return another address than the one where a call ended with `error`, which is raised where there is none."""
        try:
            return await self.pick(excluding=address)
        except ServiceError:
            raise error from None

    async def _call_once(
        self, address: Address, method: Method[Request, Response], request: Request, deadline: float
    ) -> Response:
        timeout = max(deadline - time.monotonic(), 0.0)
        with self._observed(method.path, timeout), address.leased() as channel:
            call = channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            return cast(Response, await call(request, timeout=timeout, metadata=onward()))

    async def _messages_once(
        self, address: Address, path: str, begin: _Begin, deadline: float
    ) -> AsyncGenerator[Any, None]:
        timeout = max(deadline - time.monotonic(), 0.0)
        with self._observed(path, timeout), address.leased() as channel:
            call = begin(channel, timeout)
            ending = Ending(call)
            try:
                async for message in call:
                    yield message
            except grpc.aio.AioRpcError as error:
                meant = await ending.meant(error)
                if meant.code() is not grpc.StatusCode.OK:
                    raise meant from None
            finally:
                call.cancel()

    @contextmanager
    def _observed(self, path: str, timeout: float) -> Iterator[None]:
        """Record a call made while the block runs, and raise its failure as a ServiceError."""
        code = grpc.StatusCode.CANCELLED.name
        began = time.perf_counter()
        try:
            yield
            code = grpc.StatusCode.OK.name
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            raise self._fault(error, timeout) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self._broken() from None  # its channel was closed, for an address that is gone
        finally:
            self._duration.record(
                time.perf_counter() - began, {"rpc.method": path[1:], "rpc.response.status_code": code}
            )

    def _fault(self, error: grpc.aio.AioRpcError, timeout: float) -> ServiceError:
        """Return `error` as the service meant it, or in plain words when it came from the connection."""
        fault = from_rpc_error(error)
        if rpc_status.from_call(cast(Any, error)) is not None:
            return fault
        if fault.kind is Kind.UNAVAILABLE:
            return self._broken()
        if fault.kind is Kind.OVERLOADED and "larger than max" in fault.message:  # gRPC's own, of either side
            return ServiceError(Kind.TOO_LARGE, f"a message of this call is too large for service '{self.name}'")
        if fault.kind is Kind.DEADLINE_EXCEEDED:
            message = f"service '{self.name}' did not answer within the deadline of {timeout * 1000:.0f} ms"
            return dataclasses.replace(fault, message=message)
        return fault

    def _broken(self) -> ServiceError:
        return ServiceError(
            Kind.UNAVAILABLE,
            f"the connection to service '{self.name}' broke during the call",
            code="connection_lost",
            retry_after=RETRY_AFTER_SECONDS,
        )

    def _serving(self, excluding: Address | None = None) -> list[Address]:
        return [address for address in self._addresses.values() if address is not excluding and address.serving]

    async def _hold(self, deadline: float) -> None:
        """Hold a call until an address serves, for as long as the settings and its deadline allow."""
        seconds = min(max(self._limits.hold, CONNECT_SECONDS), deadline - time.monotonic())
        self._held += 1
        try:
            await self._wait_for_serving(seconds, patient=self.holds)
        finally:
            self._held -= 1

    async def _wait_for_serving(self, seconds: float, patient: bool) -> None:
        """Wait until an address serves, or every one was tried anew (unless `patient`), or `seconds` are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._serving_or_tried(patient)

    async def _serving_or_tried(self, patient: bool) -> None:
        silent = {address: address.attempts for address in self._addresses.values() if not address.answered}
        for address in silent:
            address.nudge()
        version = self._changes.version
        while not self.serving:
            tried = all(address.answered or address.attempts > before for address, before in silent.items())
            if tried and not patient:
                return
            version = await self._changes.after(version)

    async def _resolve_forever(self) -> None:
        while True:
            await asyncio.sleep(self._limits.resolve_every)
            await self._resolve_once()

    async def _resolve_once(self) -> None:
        try:
            found = await resolve(self._places)
        except OSError as error:
            message = f"cannot resolve {', '.join(self._places)}: {error.strerror}"
            if message != self._unresolved:
                _log.warning("service '%s': %s", self.name, message)
            self._unresolved = message
            return
        self._unresolved = None
        for endpoint in found - self._addresses.keys():
            self._addresses[endpoint] = Address(endpoint, self._limits.max_message_bytes, self._changes.notify)
        for endpoint in self._addresses.keys() - found:
            closing = asyncio.create_task(self._addresses.pop(endpoint).close(self._limits.timeout))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._changes.notify()


def onward() -> tuple[tuple[str, str], ...]:
    """Return the metadata every call to a service carries: the request id, who calls, and the trace context."""
    identifier, caller = request_context.request_id.get(), current.get()
    own = {} if identifier is None else {request_context.REQUEST_ID: identifier}
    if caller is not None:
        own |= {request_context.PRINCIPAL: caller.key.id, request_context.PRIORITY: str(caller.key.priority)}
    return tuple({**own, **inject()}.items())
