"""The route of JSON requests: documented by the framework, answered past it.

The framework's layers between the server and a handler cost more than the gateway's own work, so a JSON route reads,
validates and answers by itself. FastAPI still has its signature, for the OpenAPI document.
"""

import inspect
import json
from collections.abc import Iterable
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.errors import ServiceError, invalid
from services.gateway.errors import http_error, refusal, respond
from services.gateway.schemas.common import TIMEOUT_HEADER, TimeoutMs

_TIMEOUT: TypeAdapter[int | None] = TypeAdapter(TimeoutMs)


class JsonRoute(APIRoute):
    """A POST route for a handler `(body: Model, timeout_ms) -> Response` whose body is JSON and nothing else."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        model: type[BaseModel] = inspect.signature(endpoint).parameters["body"].annotation
        self._body: TypeAdapter[BaseModel] = TypeAdapter(model)
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        response: Response
        try:
            response = await self._handle(request)
        except ServiceError as error:
            response = respond(error, scope["path"])
        except ValidationError as error:
            response = respond(refusal(error.errors()[0]), scope["path"])
        except HTTPException as error:
            response = await http_error(request, error)
        await response(scope, receive, send)

    async def _handle(self, request: Request) -> Response:
        if not is_json(media_type_of(request.headers.get("content-type", ""))):
            raise HTTPException(415, "the content-type must be application/json")
        response: Response = await self.endpoint(
            body=self._body.validate_python(parsed(await request.body())),
            timeout_ms=milliseconds(request.headers.get(TIMEOUT_HEADER)),
        )
        return response


class Shortcut:
    """Takes requests for JSON routes straight to them, and all others to the application."""

    def __init__(self, app: ASGIApp, routes: Iterable[Any]) -> None:
        own = [route for route in routes if isinstance(route, JsonRoute)]
        self._app = app
        self._routes = {route.path: route for route in own if not route.param_convertors}
        self._patterns = [route for route in own if route.param_convertors]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = self._find(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        await route.answer(scope, receive, send)

    def _find(self, scope: Scope) -> JsonRoute | None:
        path = scope["path"]
        if route := self._routes.get(path):
            return route
        for pattern in self._patterns:
            if found := pattern.path_regex.match(path):
                scope["path_params"] = found.groupdict()
                return pattern
        return None


def milliseconds(value: str | None) -> int | None:
    """Return the value of the time-out header. Raises INVALID_ARGUMENT."""
    if value is None:
        return None
    try:
        return _TIMEOUT.validate_python(value)
    except ValidationError as error:
        raise refusal(error.errors()[0], TIMEOUT_HEADER) from None


def media_type_of(content_type: str) -> str:
    """Return the media type of a content-type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(media_type: str) -> bool:
    """Whether bodies of this media type are JSON."""
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def parsed(body: bytes) -> Any:
    """Return the parsed body.

    What orjson refuses but Python's parser takes (NaN, lone surrogates) goes on to the validation, which
    names the field.
    """
    if not body:
        raise invalid(None, "the request body is empty; it must be a JSON object")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parsed_by_python(body)


def _parsed_by_python(body: bytes) -> Any:
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise HTTPException(400, f"the request body is not valid JSON: {error.msg} at {where}") from None
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the request body is not UTF-8: byte {error.start}") from None
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request body is not usable JSON: nested too deep or a number too long") from None
