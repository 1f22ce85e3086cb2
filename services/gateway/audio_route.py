"""The route of audio: a form with one upload, which waits in a temporary file until all of it is there."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.common.errors import Kind, ServiceError, invalid
from services.gateway.forms import FormParser
from services.gateway.json_route import JsonRoute, media_type_of, milliseconds
from services.gateway.schemas.audio import AudioRequest
from services.gateway.schemas.common import TIMEOUT_HEADER

_log = logging.getLogger(__name__)

MOST_FIELDS, LONGEST_FIELD = 256, 64 * 1024  # of a form, beside its file
RETRY_AFTER_SECONDS = 5.0
_EXIT_STACK = "flotilla.exit_stack"
_STRATEGY = "chunking_strategy"


class Uploads:
    """The room that uploads may take up together."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        self._limit, self.taken = limit, 0

    @contextmanager
    def lease(self) -> Iterator["Lease"]:
        """Return what counts one upload, for as long as the block runs."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            self.taken -= lease.size

    def take(self, size: int) -> None:
        """Count `size` bytes. Raises OVERLOADED."""
        if self.taken + size > self._limit:
            message = "too much audio is being uploaded at the moment; try again later"
            raise ServiceError(Kind.OVERLOADED, message, code="uploads_full", retry_after=RETRY_AFTER_SECONDS)
        self.taken += size


class Lease:
    """The room that one upload takes up."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads, self.size = uploads, 0

    async def counted(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the parts of a body and count them. Raises OVERLOADED."""
        async for part in stream:
            self._uploads.take(len(part))
            self.size += len(part)
            yield part


class AudioRoute(JsonRoute):
    """A POST route for a handler `(body: AudioRequest, timeout_ms) -> Response`.

    The upload is there until the response is sent.
    """

    uploads: Uploads

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        async with AsyncExitStack() as stack:
            scope[_EXIT_STACK] = stack
            await super().answer(scope, receive, send)

    async def _handle(self, request: Request) -> Response:
        response: Response = await self.endpoint(
            body=await self._read(request), timeout_ms=milliseconds(request.headers.get(TIMEOUT_HEADER))
        )
        return response

    async def _read(self, request: Request) -> BaseModel:
        if media_type_of(request.headers.get("content-type", "")) != "multipart/form-data":
            raise HTTPException(415, "the content-type must be multipart/form-data, as of curl -F")
        stack: AsyncExitStack = request.scope[_EXIT_STACK]
        form = await _form(request, stack.enter_context(self.uploads.lease()))
        stack.callback(_close, form)
        # Everything in a form is text, so here, and only here, numbers are read from it.
        return self._body.validate_python(_values(form.multi_items()), strict=False)


def route_class(uploads: Uploads) -> type[AudioRoute]:
    """Return the class of routes whose uploads count among `uploads`."""
    return type("AudioRoute", (AudioRoute,), {"uploads": uploads})


async def _form(request: Request, lease: Lease) -> FormData:
    """Return the form. Raises INVALID_ARGUMENT, OVERLOADED, UNAVAILABLE."""
    parser = FormParser(
        request.headers,
        lease.counted(request.stream()),
        max_files=1,
        max_fields=MOST_FIELDS,
        max_part_size=LONGEST_FIELD,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise invalid("file", "file must be one upload; a request takes one file") from None
        raise invalid(None, f"the form cannot be read: {error.message}") from None
    except OSError:
        _log.exception("an upload could not be written to a temporary file")
        message = "there is no room for uploads at the moment; try again later"
        raise ServiceError(Kind.UNAVAILABLE, message, retry_after=RETRY_AFTER_SECONDS) from None


def _close(form: FormData) -> None:
    """Close the uploads. Waits for nothing, as whoever serves a request may be cancelled once it is answered."""
    for _, value in form.multi_items():
        if isinstance(value, UploadFile):
            asyncio.get_running_loop().run_in_executor(None, value.file.close)


def _values(items: Iterable[tuple[str, UploadFile | str]]) -> dict[str, Any]:
    """Return the fields by name. An empty one is as good as none."""
    values: dict[str, Any] = {}
    for written, value in items:
        name = written.removesuffix("[]")
        if isinstance(value, UploadFile):
            values[name] = _upload(name, value)
        elif name == "file":
            raise invalid(name, "file must be an upload with a file name, as of curl -F file=@speech.wav")
        elif value:
            _add(values, name, value)
    if "file" not in values:
        raise invalid("file", "file is required: an upload, as of curl -F file=@speech.wav")
    return values


def _upload(name: str, value: UploadFile) -> UploadFile:
    if name != "file":
        raise invalid(name, f"{name} is no field for an upload; that is file")
    if not value.size:
        raise invalid(name, "file is empty")
    return value


def _add(values: dict[str, Any], name: str, value: str) -> None:
    """Add a text field to `values`."""
    if name in AudioRequest.LISTS:
        values.setdefault(name, []).extend(part.strip() for part in value.split(",") if part.strip())
    elif name.startswith(f"{_STRATEGY}[") and name.endswith("]"):  # as OpenAI's clients write an object
        strategy = values.setdefault(_STRATEGY, {})
        if not isinstance(strategy, dict):
            raise invalid(_STRATEGY, f"{_STRATEGY} is given twice")
        strategy[name[len(_STRATEGY) + 1 : -1]] = value
    elif name in values:
        raise invalid(name, f"{name} is given twice")
    else:
        values[name] = _object(value) if name == _STRATEGY and value.startswith("{") else value


def _object(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise invalid(_STRATEGY, f"{_STRATEGY} must be 'auto' or a JSON object with type, threshold") from None
