"""The route of JSON requests: a fast parser, and plain words for bodies that are not JSON."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException


class JsonRequest(Request):
    """A request that parses its body with orjson.

    What orjson refuses but Python's parser takes (NaN, lone surrogates) goes on to the validation, which
    names the field.
    """

    async def json(self) -> Any:
        """Return the parsed body. Raises HTTPException 400."""
        body = await self.body()
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            return _parsed_by_python(body)


class JsonRoute(APIRoute):
    """A route whose body is JSON and nothing else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.method == "POST" and not _is_json(request.headers.get("content-type", "")):
                raise HTTPException(415, "the content-type must be application/json")
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


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
