"""Forwarding of raw gRPC: bytes in, bytes out, whatever the cardinality. It must not know any message.

Metadata, deadline, cancellation, initial and trailing metadata and the status pass through unchanged.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool

from services.common import request_context
from services.common.errors import ServiceError, from_rpc_error
from services.gateway.access.access import API_KEY, AUTHORIZATION
from services.gateway.access.caller import charged, current
from services.gateway.addresses import Address
from services.gateway.backends import Backend, onward
from services.gateway.ending import Ending

Context = grpc.aio.ServicerContext[bytes, bytes]
Metadata = tuple[tuple[str, str | bytes], ...]

# Set anew on every hop, by gRPC or by the gateway; and keys, which are for the gateway alone.
_NOT_PASSED_ON = frozenset(
    {
        AUTHORIZATION,
        API_KEY,
        "user-agent",
        "content-type",
        "te",
        "traceparent",
        "tracestate",
        request_context.REQUEST_ID,
        request_context.PRINCIPAL,
        request_context.PRIORITY,
    }
)


class Requests:
    """The messages of one call, of which the first is kept: it may be looked at, and sent again."""

    def __init__(self, incoming: AsyncIterator[bytes]) -> None:
        self._incoming = incoming
        self._first: bytes | None = None
        self._count = 0
        self._ended = False
        self.check: Callable[[bytes], Awaitable[None]] | None = None
        """Looks at every message but the first before it goes on. Raises ServiceError."""
        self.refused: ServiceError | None = None
        """What `check` has raised."""

    async def first(self) -> bytes | None:
        """Return the first message without taking it; None when the caller sent none."""
        if self._first is None and not self._ended:
            await self._receive()
        return self._first

    @property
    def single(self) -> bool:
        """Whether the caller sent one message and is done: such a call can be made again."""
        return self._ended and self._count == 1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        first = await self.first()
        if first is not None:
            yield first
        while not self._ended:
            message = await self._receive()
            if message is not None:
                await self._check(message)
                yield message

    async def _check(self, message: bytes) -> None:
        try:
            if self.check is not None:
                await self.check(message)
        except ServiceError as error:
            self.refused = error
            raise

    async def _receive(self) -> bytes | None:
        message = await anext(self._incoming, None)
        if message is None:
            self._ended = True
            return None
        if not self._count:
            self._first = message
        self._count += 1
        return message


async def forward(method: str, backend: Backend, requests: Requests, context: Context) -> AsyncGenerator[bytes, None]:
    """Make the call on an address of `backend` and yield its responses; end with its status."""

    async def first() -> bytes:
        return await requests.first() or b""

    caller = current.get()
    if caller is not None:
        caller.check_service(backend.name)
    async with charged(backend.name, method, first) as charge:
        backend.budget.called()
        requests.check = charge.check
        address: Address | None = await backend.pick()
        while address is not None:
            attempt = _Attempt(method, address, requests, context, backend.timeout)
            async for response in attempt.responses():
                charge.count_raw(response)
                yield response if caller is None else await caller.shown(method, response)
            address = await _next_address(backend, address, attempt, requests)
            if address is None:
                await attempt.finish()


class _Attempt:
    """The call on one address."""

    def __init__(self, method: str, address: Address, requests: Requests, context: Context, longest: float) -> None:
        self._method, self._address, self._requests, self._context = method, address, requests, context
        self._longest = longest
        self.answered = False
        self.error: grpc.aio.AioRpcError | None = None
        self._trailing: Metadata = ()

    async def responses(self) -> AsyncIterator[bytes]:
        """Yield the responses; how the call ended is in `error` afterwards."""
        metadata = (*_passed_on(_pairs(self._context.invocation_metadata())), *onward())
        with self._address.leased() as channel:
            call = channel.stream_stream(self._method, None, None)(
                aiter(self._requests), timeout=self._timeout(), metadata=metadata
            )
            ending = Ending(call)
            try:
                initial = _pairs(await call.initial_metadata())
                if initial:
                    self.answered = True
                    await self._context.send_initial_metadata(initial)
                async for response in call:
                    self.answered = True
                    yield response
                self._trailing = _pairs(await call.trailing_metadata())
            except grpc.aio.AioRpcError as error:
                meant = await ending.meant(error)
                self._trailing = _pairs(meant.trailing_metadata())
                self.error = None if meant.code() is grpc.StatusCode.OK else meant
            except asyncio.CancelledError:
                if self._requests.refused is None:
                    raise
                raise self._requests.refused from None
            finally:
                call.cancel()

    def _timeout(self) -> float | None:
        """Return the caller's deadline, else the gateway's: none for streams, whose caller may go on as it likes."""
        remaining = self._context.time_remaining()
        return self._longest if remaining is None and not _streams_requests(self._method) else remaining

    async def finish(self) -> None:
        """Give the caller the status and the trailing metadata of the call."""
        if self.error is None:
            self._context.set_trailing_metadata(_with_request_id(self._trailing))
            return
        trailing = _with_request_id(_pairs(self.error.trailing_metadata()))
        await self._context.abort(self.error.code(), self.error.details() or "", trailing)


async def _next_address(backend: Backend, address: Address, attempt: _Attempt, requests: Requests) -> Address | None:
    """Return where to make the call a second time, where that is certainly safe."""
    if attempt.error is None or attempt.answered or not requests.single:
        return None
    if not backend.may_retry(address, from_rpc_error(attempt.error)):
        return None
    return await backend.pick(excluding=address)


@functools.cache
def _streams_requests(method: str) -> bool:
    try:
        found = descriptor_pool.Default().FindMethodByName(method[1:].replace("/", "."))
    except KeyError:
        return False
    return bool(found.client_streaming)


def _pairs(metadata: Iterable[Any] | None) -> Metadata:
    return tuple((key, value) for key, value in metadata or ())


def _passed_on(metadata: Metadata) -> Metadata:
    return tuple(pair for pair in metadata if pair[0] not in _NOT_PASSED_ON and not pair[0].startswith("grpc-"))


def _with_request_id(metadata: Metadata) -> Metadata:
    kept = tuple(pair for pair in metadata if pair[0] != request_context.REQUEST_ID)
    identifier = request_context.request_id.get()
    return kept if identifier is None else (*kept, (request_context.REQUEST_ID, identifier))
