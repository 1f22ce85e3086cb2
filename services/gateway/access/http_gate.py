"""The gate of the HTTP port: a key before anything of a body is used, and headers that say what is left."""

import contextlib
import math
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.errors import Kind, ServiceError
from services.gateway.access.access import API_KEY, AUTHORIZATION, Access
from services.gateway.access.caller import Caller, current
from services.gateway.access.limits import Level
from services.gateway.errors import respond

_CREDENTIALS = (AUTHORIZATION.encode(), API_KEY.encode())


class HttpGate:
    """An ASGI application in front of another. What is refused has its body read and thrown away by then."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        current.set(None)
        if scope["type"] not in {"http", "websocket"} or self._access.is_keyless(scope["path"]):
            await self._app(scope, receive, send)
            return
        credentials = {key.decode(): value.decode("latin-1") for key, value in scope["headers"] if key in _CREDENTIALS}
        caller: Caller | None = None
        try:
            caller = self._access.caller(credentials, scope["path"])
            current.set(caller)
            await caller.enter()
        except ServiceError as error:
            await _refuse(error, caller, scope, receive, send)
            return
        try:
            await self._app(scope, receive, _with_levels(caller, send))
        finally:
            await caller.leave()


async def _refuse(error: ServiceError, caller: Caller | None, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
        return
    if not any(key == b"expect" for key, _ in scope["headers"]):  # who expects to be asked has not sent it
        with contextlib.suppress(HTTPException):
            while (await receive()).get("more_body"):
                pass
    response = respond(error, scope["path"])
    if error.kind is Kind.UNAUTHENTICATED:
        response.headers["www-authenticate"] = 'Bearer realm="flotilla"'
    await response(scope, receive, send if caller is None else _with_levels(caller, send))


def _with_levels(caller: Caller, send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start" and caller.account.shown:
            message["headers"] = [*message.get("headers", ()), *_headers(await caller.levels())]
        await send(message)

    return answer


def _headers(levels: Sequence[Level]) -> list[tuple[bytes, bytes]]:
    """Return the headers as OpenAI names them; of several limits of a unit the one with the least left."""
    tightest: dict[str, Level] = {}
    for level in levels:
        known = tightest.get(level.limit.unit)
        if known is None or level.remaining < known.remaining:
            tightest[level.limit.unit] = level
    headers = []
    for unit, level in tightest.items():
        values = {"limit": f"{level.limit.amount:.0f}", "remaining": str(math.floor(level.remaining))}
        for name, value in {**values, "reset": duration(level.reset)}.items():
            headers.append((f"x-ratelimit-{name}-{unit.replace('_', '-')}".encode(), value.encode()))
    return headers


def duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: 17ms, 1s, 6m0s, 23h59m12s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
