"""HTTP connections: bounds for what uvicorn leaves open: headers without end, and callers that dawdle."""

import asyncio
import json
import uuid
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.common.errors import Kind, ServiceError
from services.gateway.errors import body_of


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a connection may do."""

    header_bytes: int
    """Request line and headers together."""
    header_count: int
    header_seconds: float
    """Longest time from the opening of a connection, or the first byte of a request, to the end of its headers."""
    send_seconds: float
    """Longest time that a caller may leave what is sent to it unread."""


class Connection(HttpToolsProtocol):
    """One connection."""

    def __init__(self, limits: ConnectionLimits, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._in_headers, self._begun = True, False
        self._unfinished = self._size = 0
        self._refusal: tuple[HTTPStatus, ServiceError] | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop("_waiting")
        self._stop("_sending")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse headers that go on and on."""
        super().data_received(data)
        if self._in_headers and self._begun and not self.transport.is_closing():
            self._unfinished += len(data)
            if self._unfinished > self._limits.header_bytes:
                self._refuse_size(f"{self._limits.header_bytes} bytes")
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin to wait for the end of the headers."""
        super().on_message_begin()
        self._in_headers, self._begun = True, True
        self._unfinished = self._size = 0
        self._wait_for_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._size += len(name) + len(value) + 4  # colon, space, line end
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin with the request, or refuse it."""
        self._stop("_waiting")
        self._in_headers = False
        if len(self.headers) > self._limits.header_count:
            self._refuse_size(f"{self._limits.header_count} headers")
        elif self._size + len(self.url) > self._limits.header_bytes:
            self._refuse_size(f"{self._limits.header_bytes} bytes")
        if self._refusal is not None:
            raise httptools.HttpParserError(self._refusal[1].message)  # data_received answers it
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The caller does not read: wait for it, but not for ever."""
        super().pause_writing()
        self._stop("_sending")
        self._sending = self.loop.call_later(self._limits.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The caller reads."""
        self._stop("_sending")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or not a whole one, in the form of all errors, and close."""
        status, error = self._refusal or (
            HTTPStatus.BAD_REQUEST,
            ServiceError(Kind.INVALID_ARGUMENT, "what was sent is not a valid HTTP request"),
        )
        self._stop("_waiting")
        body = json.dumps({"error": body_of(error)}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {uuid.uuid4().hex}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _refuse_size(self, limit: str) -> None:
        error = ServiceError(Kind.TOO_LARGE, f"the headers of the request are over the limit of {limit}")
        self._refusal = (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, error)

    def _wait_for_headers(self) -> None:
        self._stop("_waiting")
        self._waiting = self.loop.call_later(self._limits.header_seconds, self._too_slow)

    def _too_slow(self) -> None:
        if not self._begun:
            self.transport.close()
            return
        message = f"the headers of the request did not arrive within {self._limits.header_seconds:g} s"
        self._refusal = (HTTPStatus.REQUEST_TIMEOUT, ServiceError(Kind.REQUEST_TIMEOUT, message))
        self.send_400_response("")

    def _stop(self, clock: str) -> None:
        timer: asyncio.TimerHandle | None = getattr(self, clock)
        if timer is not None:
            timer.cancel()
            setattr(self, clock, None)


def connections(limits: ConnectionLimits) -> Any:
    """Return what uvicorn makes connections by."""
    return partial(Connection, limits)
