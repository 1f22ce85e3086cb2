"""The two ports of the gateway, as its settings want them."""

import grpc
from starlette.types import ASGIApp

from services.common.interceptors import Boundary
from services.common.server import GrpcListener, HttpListener
from services.gateway.connections import ConnectionLimits, connections
from services.gateway.settings import GatewaySettings
from services.gateway.tls import Tls


def http_listener(app: ASGIApp, settings: GatewaySettings, tls: Tls | None) -> HttpListener:
    """Return the HTTP port."""
    limits = ConnectionLimits(
        header_bytes=settings.header_limit_bytes,
        header_count=settings.header_limit_count,
        header_seconds=settings.header_timeout_seconds,
        send_seconds=settings.send_timeout_seconds,
    )
    return HttpListener(
        app,
        settings.host,
        settings.http_port,
        http=connections(limits),
        ws="none",
        lifespan="off",
        timeout_keep_alive=settings.keep_alive_seconds,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
    )


def grpc_listener(
    server: grpc.aio.Server, boundary: Boundary, settings: GatewaySettings, tls: Tls | None
) -> GrpcListener:
    """Return the gRPC port."""
    credentials = None if tls is None else tls.grpc_credentials()
    return GrpcListener(server, boundary, settings.host, settings.grpc_port, credentials, goaway_first=True)
