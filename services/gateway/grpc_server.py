"""The gRPC port: which call goes where."""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from services.common.errors import Kind, ServiceError
from services.common.interceptors import Boundary
from services.common.server import grpc_server
from services.gateway.access.access import Access
from services.gateway.access.caller import current
from services.gateway.access.grpc_gate import GrpcGate
from services.gateway.backends import Backend
from services.gateway.fleet import Fleet
from services.gateway.forwarding import Context, Requests, forward
from services.gateway.kserve import PREFIX, STREAM, KServe
from services.gateway.kserve_stream import ModelStream
from services.gateway.reflection import add_reflection

_log = logging.getLogger(__name__)


class Forwarder(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Takes every call there is: by service name to its backend, KServe by model name, the rest is refused."""

    def __init__(self, fleet: Fleet, kserve: KServe) -> None:
        self._kserve, self._directory = kserve, kserve.directory
        self._backends = {name: service.backend for service in fleet.services for name in service.grpc_names}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call. Bytes both ways; a unary call is a stream of one message on the wire."""
        method = handler_call_details.method

        async def handle(incoming: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            if method == STREAM:
                async with aclosing(ModelStream(method, self._directory, context).responses(incoming)) as responses:
                    async for response in responses:
                        yield response
                return
            requests = Requests(incoming)
            target = await self._target(method, requests)
            if isinstance(target, bytes):
                yield target
                return
            async with aclosing(forward(method, target, requests, context)) as responses:
                async for response in responses:
                    yield response

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _target(self, method: str, requests: Requests) -> Backend | bytes:
        service, _, name = method[1:].partition("/")
        if backend := self._backends.get(service):
            return backend
        if method.startswith(PREFIX) and self._kserve.serves(name):
            return await self._kserve.route(name, requests)
        raise ServiceError(
            Kind.UNIMPLEMENTED, f"{method} is not served here; server reflection lists what is: grpcurl <address> list"
        )


def log_call(method: str, code: str, seconds: float, context: Context) -> None:
    """Write the access log's line of a call, as the edge does for HTTP."""
    caller = current.get()
    client = {"client": context.peer()}
    extra = client if caller is None else {**client, "key": caller.key.id}
    _log.info("%s %s %.1f ms", method, code, seconds * 1000, extra=extra)


def create_grpc_server(  # noqa: PLR0913, PLR0917  # what the port stands on
    fleet: Fleet,
    kserve: KServe,
    health: Any,
    boundary: Boundary,
    max_message_bytes: int,
    access: Access | None,
) -> grpc.aio.Server:
    """Return the server of the gRPC port, not started. Without `access` no key is asked for."""
    server = grpc_server(max_message_bytes, [boundary] if access is None else [boundary, GrpcGate(access)])
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection(fleet, server)
    server.add_generic_rpc_handlers((Forwarder(fleet, kserve),))
    return server
