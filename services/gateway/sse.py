"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html, as OpenAI's clients read them."""

import logging
from typing import Any, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.common.errors import ServiceError
from services.gateway.errors import body_of
from services.gateway.pieces import Piece, Pieces

_log = logging.getLogger(__name__)

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


class Events(Protocol):
    """Writes the events of one answer."""

    def of(self, call: int, piece: Any) -> bytes:
        """Return the events of a piece of the call at that position."""

    def end(self) -> bytes:
        """Return the events after the last piece."""


class EventStream(Response):
    """Sends pieces as events. What fails after the first byte ends the stream with an error event and nothing more."""

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
            while (ready := await self._pieces.ready()) is not None:
                data = b"".join([self._events.of(call, piece) for call, piece in ready]) if ready else KEEP_ALIVE
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            last = self._events.end() + self._last
        except ServiceError as error:
            _log.warning("a stream ended early: %s", error.kind.name)
            last = error_event(error)
        finally:
            await self._pieces.close()
        await send({"type": "http.response.body", "body": last, "more_body": False})


def error_event(error: ServiceError) -> bytes:
    """Return the last event of a stream that failed. OpenAI's clients look for `error`, NVIDIA's for `object` in it."""
    return b"data: %b\n\n" % orjson.dumps({"error": {"object": "error", **body_of(error)}})
