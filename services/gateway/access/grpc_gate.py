"""The gate of the gRPC port: a key for every call but those about health."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
from grpc_status import rpc_status

from services.common.errors import ServiceError, to_status
from services.common.interceptors import Context
from services.gateway.access.access import API_KEY, AUTHORIZATION, Access
from services.gateway.access.caller import current

_CREDENTIALS = (AUTHORIZATION, API_KEY)
_REFLECTION = "/grpc.reflection."
FIRST_MESSAGE_SECONDS = 1.0


class GrpcGate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Stands inside the boundary, which gives its refusals their status."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of the call with the gate before it."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or self._access.is_keyless(method):
            return handler
        if handler.stream_stream is None:
            raise NotImplementedError(f"the gate guards calls with streams both ways only, as forwarded; not {method}")
        behaviour = handler.stream_stream

        async def call(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            async with self._entered(method, requests, context), aclosing(behaviour(requests, context)) as responses:
                async for response in responses:
                    yield response

        return grpc.stream_stream_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)

    @asynccontextmanager
    async def _entered(self, method: str, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[None]:
        given = context.invocation_metadata() or ()
        credentials = {key: value for key, value in given if key in _CREDENTIALS and isinstance(value, str)}
        try:
            caller = self._access.caller(credentials, method)
            current.set(caller)
            await caller.enter()
        except ServiceError as error:
            # A client that is refused while it sends may never see why: https://github.com/grpc/grpc/issues/36066.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                    await anext(requests, None)
            if method.startswith(_REFLECTION):  # which the boundary leaves alone
                status = rpc_status.to_status(to_status(error))
                await context.abort(status.code, status.details, status.trailing_metadata)
            raise
        try:
            yield
        finally:
            await caller.leave()
