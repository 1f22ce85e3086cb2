"""The route of image requests: JSON as other routes take it, a form with files, or an image as the whole body."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import Response

from services.common.errors import ServiceError, invalid
from services.gateway.forms import FormParser
from services.gateway.images import check_media_type
from services.gateway.json_route import JsonRoute, is_json, media_type_of, milliseconds, parsed
from services.gateway.schemas.common import TIMEOUT_HEADER
from services.gateway.schemas.vision import MOST_IMAGES, ImageSource

FILE_FIELDS = ("file", "image", "files")
MOST_FIELDS, LONGEST_FIELD = 128, 64 * 1024  # of a form, beside its files
_LISTS = frozenset({"labels", "merge_levels"})


class _Parser(FormParser):
    """Keeps uploads in memory, where the body limit bounds them, and from where they go on."""

    spool_max_size = sys.maxsize


class ImageRoute(JsonRoute):
    """A POST route for a handler `(body: Model, timeout_ms, accept) -> Response` whose model has `input`."""

    async def _handle(self, request: Request) -> Response:
        response: Response = await self.endpoint(
            body=await self._read(request),
            timeout_ms=milliseconds(request.headers.get(TIMEOUT_HEADER)),
            accept=request.headers.get("accept", ""),
        )
        return response

    async def _read(self, request: Request) -> BaseModel:
        media_type = media_type_of(request.headers.get("content-type", ""))
        query = request.query_params.multi_items()
        if is_json(media_type):
            for name, _ in query:
                raise invalid(name, f"{name} belongs into the JSON body")
            return self._body.validate_python(parsed(await request.body()))
        if media_type == "multipart/form-data":
            fields, images = await _form(request)
        elif media_type.startswith("image/"):
            check_media_type("body", media_type)
            fields, images = [], [ImageSource("body", "body", await request.body())]
        else:
            raise HTTPException(415, "the content-type must be application/json, multipart/form-data or image/*")
        # Everything in a form or a query is text, so here, and only here, numbers are read from it.
        return self._body.validate_python({**_values([*query, *fields]), "input": images}, strict=False)


async def _form(request: Request) -> tuple[list[tuple[str, str]], list[ImageSource]]:
    """Return the fields and the files of a form. Raises INVALID_ARGUMENT."""
    parser = _Parser(
        request.headers, request.stream(), max_files=MOST_IMAGES, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _unusable(error) from None
    try:
        fields, files = await _parts(form)
    finally:
        await form.close()
    if not files:
        raise invalid("file", "file is required: an upload, as of curl -F file=@photo.jpg")
    return fields, _named(files)


async def _parts(form: FormData) -> tuple[list[tuple[str, str]], list[tuple[str, bytes]]]:
    """Return the fields and the files."""
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, bytes]] = []
    for name, value in form.multi_items():
        _check_kind(name, value)
        if isinstance(value, UploadFile):
            files.append((name, await value.read()))
        else:
            fields.append((name, value))
    return fields, files


def _unusable(error: MultiPartException) -> ServiceError:
    if error.message.startswith("Too many files"):
        return invalid("file", f"file has too many uploads; a request takes 1 to {MOST_IMAGES} images")
    return invalid(None, f"the form cannot be read: {error.message}")


def _check_kind(name: str, value: UploadFile | str) -> None:
    if isinstance(value, str) and name in FILE_FIELDS:
        raise invalid(name, f"{name} must be an upload with a file name, as of curl -F {name}=@photo.jpg")
    if not isinstance(value, str) and name not in FILE_FIELDS:
        raise invalid(name, f"{name} is no field for an upload; those are {', '.join(FILE_FIELDS)}")


def _named(files: Sequence[tuple[str, bytes]]) -> list[ImageSource]:
    """Return the uploads under the names that errors call them: `file`, or `file[1]` where there are several."""
    many, seen = Counter(name for name, _ in files), Counter[str]()
    images = []
    for field, data in files:
        name = field if many[field] == 1 else f"{field}[{seen[field]}]"
        seen[field] += 1
        images.append(ImageSource(name, name, data))
    return images


def _values(fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the parameters. Lists may be repeated, and separated by commas."""
    values: dict[str, Any] = {}
    for name, text in fields:
        if name == "input":
            raise invalid(name, "input is for JSON bodies; in a form the images are uploads in 'file'")
        if name in _LISTS:
            values.setdefault(name, []).extend(part.strip() for part in text.split(","))
        elif name in values:
            raise invalid(name, f"{name} is given twice")
        else:
            values[name] = text
    return values
