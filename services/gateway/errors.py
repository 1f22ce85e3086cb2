"""Errors over HTTP: the body of a ServiceError, OpenAI's or KServe's, and the one sentence a refused body deserves."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.common import request_context
from services.common.errors import TABLE, Kind, ServiceError
from services.gateway.schemas.errors import ErrorResponse

_KIND_OF_STATUS = {row.http: kind for kind, row in reversed(TABLE.items())}
_DOCUMENTED = (400, 401, 403, 404, 408, 413, 415, 429, 500, 501, 503, 504)

RESPONSES: dict[int | str, dict[str, Any]] = {status: {"model": ErrorResponse} for status in _DOCUMENTED}
"""The error responses of a route, for its OpenAPI description."""
EVENT_STREAM: dict[str, Any] = {"text/event-stream": {}}
"""The content of an answer that comes as server-sent events, for the same. A schema would be that of an event."""


def respond(error: ServiceError, path: str = "") -> Response:
    """Return the HTTP response for `error`, of a request for `path`: clients of /v2 read KServe's body."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        headers["retry-after-ms"] = str(max(1, round(error.retry_after * 1000)))
    body = error.message if is_kserve(path) else body_of(error)
    return Response(json.dumps({"error": body}), error.row.http, headers, "application/json")


def is_kserve(path: str) -> bool:
    """Whether a path belongs to KServe v2."""
    return path == "/v2" or path.startswith("/v2/")


def body_of(error: ServiceError) -> dict[str, Any]:
    """Return what OpenAI's clients find under `error`."""
    return {"message": error.message, "type": error.row.openai, "param": error.field, "code": error.code}


async def service_error(request: Request, error: Exception) -> Response:
    """Answer a ServiceError."""
    assert isinstance(error, ServiceError)  # noqa: S101
    return respond(error, request.url.path)


async def http_error(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: unknown routes, wrong methods, bodies that cannot be read."""
    assert isinstance(error, HTTPException)  # noqa: S101
    kind = _KIND_OF_STATUS.get(error.status_code, Kind.INTERNAL)
    message, code = error.detail, None
    if error.status_code == 404:
        message, code = f"no such route: {request.method} {request.url.path}; GET /openapi.json lists them", "no_route"
    elif error.status_code == 405:
        message = f"{request.method} is not allowed on {request.url.path}"
    response = respond(ServiceError(kind, message, code=code), request.url.path)
    response.headers.update(error.headers or {})
    return response


async def validation_error(request: Request, error: Exception) -> Response:
    """Answer a request that does not have the form its route asks for."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    fault = error.errors()[0]
    return respond(refusal({**fault, "loc": fault["loc"][1:]}), request.url.path)  # without "query", "path"


async def unexpected_error(request: Request, _: Exception) -> Response:
    """Answer a fault of our own. The framework raises it again, and the edge logs it."""
    return respond(unexpected(), request.url.path)


def unexpected() -> ServiceError:
    """Return the error for a fault of our own: nothing of it is told but where to find it in the log."""
    return ServiceError(Kind.INTERNAL, f"internal error; request id {request_context.request_id.get()}")


@contextmanager
def public_names(names: Mapping[str, str]) -> Iterator[None]:
    """Give errors of a service the field names of the HTTP request: {"inputs": "input"} makes inputs[3] input[3]."""
    try:
        yield
    except ServiceError as error:
        rename(error, lambda field: re.sub(r"^\w+", lambda found: names.get(found[0], found[0]), field))
        raise


def rename(error: ServiceError, public: Callable[[str], str]) -> None:
    """Give the field of `error` the name that `public` returns for it, in the message too."""
    if error.field is not None:
        name = public(error.field)
        error.message = re.sub(rf"(?<!\w){re.escape(error.field)}", lambda _: name, error.message)
        error.field = name


@contextmanager
def image_names(names: Sequence[str]) -> Iterator[None]:
    """Give errors of the vision service the names of the HTTP request: images[1].data becomes the second of `names`."""

    def rename(text: str) -> str:
        text = _IMAGE.sub(lambda found: names[int(found[1])] if int(found[1]) < len(names) else found[0], text)
        return re.sub(r"^images\b", names[0].partition("[")[0], text)

    try:
        yield
    except ServiceError as error:
        if error.field is not None:
            error.message, error.field = rename(error.message), rename(error.field)
        raise


_IMAGE = re.compile(r"\bimages\[(\d+)\](?:\.data)?")
_SENTENCES = {
    "missing": "{field} is required",
    "extra_forbidden": "{field} is not a parameter of this request",
    "string_type": "{field} must be a string",
    "bool_type": "{field} must be true or false",
    "bool_parsing": "{field} must be true or false",
    "float_type": "{field} must be a number",
    "float_parsing": "{field} must be a number",
    "finite_number": "{field} must be a finite number",
    "int_type": "{field} must be an integer",
    "int_parsing": "{field} must be an integer",
    "list_type": "{field} must be a list",
    "string_too_short": "{field} must not be empty",
    "too_short": "{field} must not be empty",
    "too_long": "{field} has too many items",
    "model_attributes_type": "{field} must be an object",
    "model_type": "{field} must be an object",
    "dict_type": "{field} must be an object",
}


def refusal(fault: Mapping[str, Any], field: str | None = None) -> ServiceError:
    """Return the error for one fault of pydantic: https://docs.pydantic.dev/latest/errors/validation_errors/.

    `field` names what was validated where that is no field of the body.
    """
    context = fault.get("ctx", {})
    field = context["field"] if fault["type"] == "field" else field or _dotted(fault["loc"])
    if not field:
        return ServiceError(Kind.INVALID_ARGUMENT, "the request body must be a JSON object")
    if fault["type"] == "field":
        message = fault["msg"]
    elif fault["type"] == "literal_error":
        message = f"{field} must be {context['expected']}"
    elif sentence := _SENTENCES.get(fault["type"]):
        message = sentence.format(field=field)
    else:
        message = f"{field} {fault['msg'].removeprefix('Input ')}"
    return ServiceError(Kind.INVALID_ARGUMENT, message, field=field)


def _dotted(path: Sequence[str | int]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")
