"""The one place where gRPC calls begin and errors leave: request id, trace span, metrics, typed statuses."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_status import rpc_status
from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, StatusCode

from services.common import errors, request_context
from services.common.errors import Kind, ServiceError, invalid
from services.common.telemetry import SECONDS, TRACE_PARENT, Telemetry, extract

_log = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]
_UNOBSERVED = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_OTHER = "_OTHER"

Ended = Callable[[str, str, float, Context], None]
"""Hears of a call that has ended: package.Service/Method, name of the status, seconds, its context."""


class _Reader:
    """Turns request bytes into messages; bytes that are no message are the caller's fault."""

    def __init__(self, deserialise: Callable[[bytes], Any] | None, streaming: bool) -> None:
        self._deserialise, self._streaming = deserialise, streaming

    def __call__(self, request: Any) -> Any:
        if self._deserialise is None:
            return request
        return self._each(request) if self._streaming else self._one(request)

    def _one(self, raw: bytes) -> Any:
        try:
            return self._deserialise(raw)  # type: ignore[misc]
        except Exception as error:
            raise invalid(None, f"the request is not a valid message: {error}") from None

    async def _each(self, requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in requests:
            yield self._one(raw)


class Boundary(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every handler of a server, whatever its cardinality."""

    def __init__(self, telemetry: Telemetry, refusing: Callable[[], bool], ended: Ended | None = None) -> None:
        """`refusing` says whether new calls are turned away as not started (the end of a drain)."""
        self._tracer = telemetry.tracer
        self._refusing, self._ended = refusing, ended
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._duration = telemetry.histogram(
            "rpc.server.call.duration", "Time to answer a gRPC call, by method and status.", SECONDS, "s"
        )

    async def idle(self, timeout: float) -> None:
        """Return when no call runs, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of the call with this boundary around it."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_UNOBSERVED):
            return handler
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        read = _Reader(handler.request_deserializer, handler.request_streaming)
        wrap = self._streaming if handler.response_streaming else self._unary
        wrapped = wrap(method, behaviour, read)
        asks, answers = (
            "stream" if many else "unary" for many in (handler.request_streaming, handler.response_streaming)
        )
        make: Callable[..., Any] = getattr(grpc, f"{asks}_{answers}_rpc_method_handler")
        return make(
            wrapped,
            request_deserializer=None,  # done inside the boundary, so that garbage gets a typed error
            response_serializer=handler.response_serializer,
        )

    def _unary(
        self, method: str, behaviour: Callable[..., Awaitable[Any]], read: _Reader
    ) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            async with self._observed(method, context):
                return await behaviour(read(request), context)

        return call

    def _streaming(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]], read: _Reader
    ) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            async with (
                self._observed(method, context),
                aclosing(behaviour(read(request), context)) as responses,
            ):
                async for response in responses:
                    yield response

        return call

    @asynccontextmanager
    async def _observed(self, path: str, context: Context) -> AsyncIterator[None]:
        method = path[1:]
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        request_id = request_context.adopt_request_id(metadata.get(request_context.REQUEST_ID))
        context.set_trailing_metadata(((request_context.REQUEST_ID, request_id),))
        code, began = grpc.StatusCode.OK.name, time.perf_counter()
        self._running += 1
        self._idle.clear()
        if TRACE_PARENT in metadata:
            otel_context.attach(extract(metadata))
        with self._tracer.start_as_current_span(
            method, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                if self._refusing():
                    raise ServiceError(Kind.NOT_STARTED, "this replica is shutting down; the call was not started")
                yield
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED.name
                raise
            except grpc.aio.AbortError:
                code = _abort_code(context)
                raise
            except ServiceError as error:
                code = error.row.grpc.name
                await _abort(context, error, request_id)
            except Exception:
                _log.exception("unexpected failure in a gRPC call")
                code = grpc.StatusCode.INTERNAL.name
                internal = ServiceError(Kind.INTERNAL, f"internal error; request id {request_id}")
                await _abort(context, internal, request_id)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()
                self._record(method, code, time.perf_counter() - began, span, context)

    def _record(self, method: str, code: str, seconds: float, span: Span, context: Context) -> None:
        attributes = {"rpc.method": method if _exists(method) else _OTHER, "rpc.response.status_code": code}
        self._duration.record(seconds, attributes)
        if self._ended is not None:
            self._ended(method, code, seconds, context)
        if span.is_recording():
            span.set_attributes({"rpc.system.name": "grpc", **attributes})
            if code != grpc.StatusCode.OK.name:
                span.set_status(StatusCode.ERROR, code)


def _exists(method: str) -> bool:
    """Whether there is such a method: a caller who makes up names must not make up time series."""
    try:
        descriptor_pool.Default().FindMethodByName(method.replace("/", "."))
    except KeyError:
        return False
    return True


async def _abort(context: Context, error: ServiceError, request_id: str) -> None:
    status = rpc_status.to_status(errors.to_status(error))
    trailing = (*status.trailing_metadata, (request_context.REQUEST_ID, request_id))
    await context.abort(status.code, status.details, trailing)


def _abort_code(context: Context) -> str:
    code: Any = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode(code).name if code else "UNKNOWN"
