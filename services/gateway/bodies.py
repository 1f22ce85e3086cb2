"""Request bodies: a size limit, a time limit, and a watch on clients that leave.

A client that goes away (or half-closes its connection) cancels the handler, and with it the call to the service.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may be."""

    size: int
    """Bytes."""
    seconds: float
    """Longest time the whole of it may take."""
    pause: float
    """Longest time between two parts of it, in seconds."""


class Bodies:
    """Wraps `receive` of every HTTP request."""

    def __init__(self, app: ASGIApp, limits: BodyLimits, of_paths: Mapping[str, BodyLimits]) -> None:
        """`of_paths` are those of paths that have others than `limits`."""
        self._app, self._limits, self._of_paths = app, limits, of_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; return silently when the client left."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limits = self._of_paths.get(scope["path"], self._limits)
        body = _Body(receive, limits, _content_length(scope))
        try:
            await self._app(scope, body.receive, body.read_before_end(send) if _is_last(scope) else send)
        except asyncio.CancelledError:
            if not body.client_left:
                raise
        finally:
            body.close()


class _Body:
    """The body of one request as it arrives."""

    def __init__(self, receive: Receive, limits: BodyLimits, declared: int) -> None:
        self.client_left = False
        self._receive, self._limits, self._declared, self._size = receive, limits, declared, 0
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + limits.seconds
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

    def read_before_end(self, send: Send) -> Send:
        """Return a `send` that first reads what is left of the body, within the limits, and throws it away.

        The connection is closed after the answer. With some of the body unread, that resets it, and a client that
        still sends would never see why it was refused.
        """

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                with contextlib.suppress(HTTPException):
                    while self._watch is None:
                        await self.receive()
            await send(message)

        return answer

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()

    def _check_size(self, size: int) -> None:
        if size > self._limits.size:
            raise HTTPException(413, f"the request body is over the limit of {self._limits.size} bytes")

    async def _part(self) -> Message:
        longest = self._loop.time() + self._limits.pause
        try:
            async with asyncio.timeout_at(min(longest, self._deadline)):
                return await self._receive()
        except TimeoutError:
            message = f"the request body did not arrive within {self._limits.seconds:g} s"
            if longest < self._deadline:
                message = f"nothing of the request body arrived for {self._limits.pause:g} s"
            raise HTTPException(408, message, {"connection": "close"}) from None

    async def _cancel_when_client_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.client_left = True
        if self._handler is not None:
            self._handler.cancel()


def _is_last(scope: Scope) -> bool:
    """Whether a request is the last of its connection."""
    if scope["http_version"] == "1.0":
        return True
    return any(key == b"connection" and b"close" in value.lower() for key, value in scope["headers"])


def _content_length(scope: Scope) -> int:
    for key, value in scope["headers"]:
        if key == b"content-length":
            with contextlib.suppress(ValueError):
                return int(value)
    return 0
