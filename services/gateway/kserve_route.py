"""The route of KServe's POST requests: JSON whatever its content-type says, binary tensors behind it, packed bodies."""

from typing import Any

from fastapi import Request
from starlette.responses import Response

from services.common.errors import ServiceError, invalid
from services.gateway.content_encoding import decoded, encoded, wanted
from services.gateway.errors import RESPONSES
from services.gateway.infer_http import HEADER_LENGTH
from services.gateway.json_route import JsonRoute, milliseconds, parsed
from services.gateway.schemas.common import TIMEOUT_HEADER
from services.gateway.schemas.kserve import InferRequest, KServeError

KSERVE_RESPONSES: dict[int | str, dict[str, Any]] = {status: {"model": KServeError} for status in RESPONSES}
"""The error responses of a route, for its OpenAPI description."""


def kserve_route(limit: int) -> type[JsonRoute]:
    """Return the route class for handlers `(body, timeout_ms, **path) -> Response`; `limit` is for unpacked bodies."""

    class KServeRoute(JsonRoute):
        async def _handle(self, request: Request) -> Response:
            content = await decoded(await request.body(), request.headers.get("content-encoding", ""), limit)
            size = _header_length(request.headers.get(HEADER_LENGTH), len(content))
            # An index is asked for with an empty body.
            body: Any = self._body.validate_python(parsed(content[:size] or b"{}"))
            if isinstance(body, InferRequest):
                body.follow_by(content[size:])
            elif size < len(content):
                raise invalid(HEADER_LENGTH, f"{HEADER_LENGTH} belongs to inferences with binary tensors")
            response: Response = await self.endpoint(
                body=body, timeout_ms=milliseconds(request.headers.get(TIMEOUT_HEADER)), **request.path_params
            )
            coding = wanted(request.headers.get("accept-encoding", ""))
            return response if coding is None else await _packed(response, coding)

    return KServeRoute


async def _packed(response: Response, coding: str) -> Response:
    if not isinstance(getattr(response, "body", None), bytes) or not response.body:
        return response  # a stream
    headers = {key: value for key, value in response.headers.items() if key != "content-length"}
    content = await encoded(bytes(response.body), coding)
    return Response(content, response.status_code, {**headers, "content-encoding": coding, "vary": "accept-encoding"})


def _header_length(value: str | None, size: int) -> int:
    """Return how much of a body of `size` bytes is JSON."""
    if value is None:
        return size
    if not (value.isascii() and value.isdigit() and len(value) < 12 and 0 < int(value) <= size):
        raise _wrong_length(size)
    return int(value)


def _wrong_length(size: int) -> ServiceError:
    return invalid(
        HEADER_LENGTH, f"{HEADER_LENGTH} must be the length of the JSON, from 1 to the {size} bytes of the body"
    )
