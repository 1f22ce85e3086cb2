"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html, as OpenAI's clients read them."""

import logging
from abc import ABC, abstractmethod
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.common.errors import ServiceError
from services.gateway.errors import body_of
from services.gateway.pieces import Piece, Pieces

_log = logging.getLogger(__name__)

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


class Events(ABC):
    """Writes the events of one answer."""

    def begin(self) -> bytes:
        """Return the events before the first piece."""
        return b""

    @abstractmethod
    def of(self, call: int, piece: Any) -> bytes:
        """Return the events of a piece of the call at that position."""

    @abstractmethod
    def end(self) -> bytes:
        """Return the events after the last piece."""

    def failure(self, error: ServiceError) -> bytes:
        """Return the events that end an answer that failed."""
        return error_event(error)


class EventStream(Response):
    """Sends pieces as events. What fails after the first byte ends the stream with events that say so, nothing more."""

    media_type = "text/event-stream"

    def __init__(self, pieces: Pieces[Piece], events: Events, last: bytes = DONE) -> None:
        """`last` comes after the events of an answer that did not fail."""
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._pieces, self._events, self._last = pieces, events, last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if first := self._events.begin():
                await send({"type": "http.response.body", "body": first, "more_body": True})
            while (ready := await self._pieces.ready()) is not None:
                data = b"".join([self._events.of(call, piece) for call, piece in ready]) if ready else KEEP_ALIVE
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            last = self._events.end() + self._last
        except ServiceError as error:
            _log.warning("a stream ended early: %s", error.kind.name)
            last = self._events.failure(error)
        finally:
            await self._pieces.close()
        await send({"type": "http.response.body", "body": last, "more_body": False})


def error_event(error: ServiceError) -> bytes:
    """Return the last event of a stream that failed. OpenAI's clients look for `error`, NVIDIA's for `object` in it."""
    return b"data: %b\n\n" % orjson.dumps({"error": {"object": "error", **body_of(error)}})
