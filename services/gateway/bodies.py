"""Request bodies: a size limit, a time limit, and a watch on clients that leave.

A client that goes away (or half-closes its connection) cancels the handler, and with it the call to the service.
"""

import asyncio
import contextlib

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Bodies:
    """Wraps `receive` of every HTTP request."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        """`limit` is in bytes, `seconds` is the longest time a whole body may take."""
        self._app, self._limit, self._seconds = app, limit, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; return silently when the client left."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._limit, self._seconds, _content_length(scope))
        try:
            await self._app(scope, body.receive, send)
        except asyncio.CancelledError:
            if not body.client_left:
                raise
        finally:
            body.close()


class _Body:
    """The body of one request as it arrives."""

    def __init__(self, receive: Receive, limit: int, seconds: float, declared: int) -> None:
        self.client_left = False
        self._receive, self._limit, self._declared, self._size = receive, limit, declared, 0
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._handler = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Return the next part. Raises HTTPException 413 and 408, CancelledError when the client has left."""
        if self._watch is not None:
            await asyncio.shield(self._watch)
            return {"type": "http.disconnect"}
        self._check_size(self._declared)
        message = await self._part()
        if message["type"] == "http.disconnect":
            self.client_left = True
            raise asyncio.CancelledError
        self._size += len(message.get("body", b""))
        self._check_size(self._size)
        if not message.get("more_body"):
            self._watch = self._loop.create_task(self._cancel_when_client_leaves())
        return message

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise HTTPException(413, f"the request body is over the limit of {self._limit} bytes")

    async def _part(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._receive()
        except TimeoutError:
            message = f"the request body did not arrive within {self._seconds:g} s"
            raise HTTPException(408, message, {"connection": "close"}) from None

    async def _cancel_when_client_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.client_left = True
        if self._handler is not None:
            self._handler.cancel()


def _content_length(scope: Scope) -> int:
    for key, value in scope["headers"]:
        if key == b"content-length":
            with contextlib.suppress(ValueError):
                return int(value)
    return 0
