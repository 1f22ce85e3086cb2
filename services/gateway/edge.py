"""The edge: what every HTTP request gets whatever its route: id, trace span, metrics, a log line, an answer.

Pure ASGI, so that nothing is buffered and cancellation passes through.
"""

import logging
import time
from dataclasses import dataclass
from http import HTTPStatus

from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common import request_context
from services.common.health import Health
from services.common.telemetry import SECONDS, TRACE_PARENT, Telemetry, extract
from services.gateway.access.caller import current
from services.gateway.errors import respond, unexpected

_log = logging.getLogger(__name__)

_CARRIED = (b"x-request-id", b"traceparent", b"tracestate")
_QUIET = ("/v1/health/live", "/v1/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics", "/v1/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_LEFT = 499

# https://owasp.org/www-project-secure-headers/: answers are data, not pages to frame or to guess the type of.
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_ONLY_HTTPS = (b"strict-transport-security", b"max-age=31536000")


def _from(scope: Scope) -> dict[str, str]:
    """Return who sent a request: address, and the id of the key where one was asked for."""
    caller = current.get()
    address = {"client": scope["client"][0]} if scope.get("client") else {}
    return address if caller is None else {**address, "key": caller.key.id}


@dataclass(slots=True)
class _Exchange:
    """One request and what was answered."""

    send: Send
    headers: list[tuple[bytes, bytes]]
    status: int = CLIENT_LEFT

    async def answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.headers]
        await self.send(message)


class Edge:
    """The outermost ASGI application."""

    def __init__(self, app: ASGIApp, health: Health, telemetry: Telemetry) -> None:
        self._app, self._health, self._tracer = app, health, telemetry.tracer
        self._active = 0
        self._duration = telemetry.histogram(
            "http.server.request.duration", "Time to answer an HTTP request, by method, route, status.", SECONDS, "s"
        )
        telemetry.gauge("http.server.active_requests", "HTTP requests being worked on.", lambda: self._active)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        carried = {key.decode(): value.decode("latin-1") for key, value in scope["headers"] if key in _CARRIED}
        identifier = request_context.adopt_request_id(carried.get(request_context.REQUEST_ID))
        headers = [(b"x-request-id", identifier.encode()), *_SECURITY]
        if scope["scheme"] == "https":
            headers.append(_ONLY_HTTPS)
        if self._health.draining:
            headers.append((b"connection", b"close"))
        if TRACE_PARENT in carried:
            otel_context.attach(extract(carried))
        self._active += 1
        try:
            await self._observed(scope, receive, _Exchange(send, headers))
        finally:
            self._active -= 1

    async def _observed(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        began = time.perf_counter()
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        with self._tracer.start_as_current_span(
            method, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                await self._answered(scope, receive, exchange)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                seconds = time.perf_counter() - began
                attributes = {
                    "http.request.method": method,
                    "http.route": route,
                    "http.response.status_code": exchange.status,
                }
                self._duration.record(seconds, attributes)
                if span.is_recording():
                    span.update_name(f"{method} {route}")
                    span.set_attributes({"url.path": scope["path"], "url.scheme": scope["scheme"], **attributes})
                    if exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        span.set_status(StatusCode.ERROR)
                if route not in _QUIET:
                    _log.info("%s %s %d %.1f ms", method, route, exchange.status, seconds * 1000, extra=_from(scope))

    async def _answered(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            await self._app(scope, receive, exchange.answer)
        except Exception:
            _log.exception("unexpected failure in an HTTP request")
            # A response that has begun stays as it is; where it is not whole, uvicorn closes the connection.
            if exchange.status == CLIENT_LEFT:
                await respond(unexpected(), scope["path"])(scope, receive, exchange.answer)
