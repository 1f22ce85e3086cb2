"""`POST /v1/classify`, `/v1/detect`, `/v1/page-elements`, `/v1/faces`, `/v1/ocr`, and `/v1/infer` by model."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
import pybase64
from fastapi import APIRouter, Header
from flotilla.vision.v1 import vision_pb2 as pb
from pydantic import BaseModel
from starlette.responses import Response

from services.common.errors import Kind, ServiceError, invalid
from services.gateway import images
from services.gateway.backends import Backend, Method
from services.gateway.directory import Directory
from services.gateway.errors import RESPONSES, image_names
from services.gateway.image_route import FILE_FIELDS, ImageRoute
from services.gateway.remote_images import RemoteImages
from services.gateway.schemas.common import TimeoutMs, seconds
from services.gateway.schemas.vision import (
    MOST_IMAGES,
    ClassifyRequest,
    ClassifyResponse,
    DetectRequest,
    DetectResponse,
    FacesRequest,
    FacesResponse,
    ImagesRequest,
    InferRequest,
    InferResponse,
    OcrRequest,
    OcrResponse,
)

Accept = Annotated[str, Header(include_in_schema=False)]
_SERVICE = "/flotilla.vision.v1.VisionService/"
_NOT_SENT = {"input", "merge_levels"}
_EXAMPLE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mPUqDjBgA0wMeAAg1MCABznAXiY7kjRAAAAAElFTkSuQmCC"
)


@dataclass(frozen=True, slots=True)
class Task:
    """What one kind of model does: its call, its parameters, and how a result looks in JSON."""

    method: Method[Any, Any]
    body: type[ImagesRequest]
    row: Callable[[Any], dict[str, Any]]


def create_router(vision: Backend, directory: Directory, remote: RemoteImages) -> APIRouter:
    """Return the routes, served by the service behind `vision`."""
    router = APIRouter(route_class=ImageRoute, tags=["vision"])

    async def answer(task: Task, body: ImagesRequest, timeout_ms: int | None, accept: str) -> Response:
        began, timeout = time.monotonic(), seconds(timeout_ms)
        request = await _to_proto(task, body, remote, timeout)
        if timeout is not None:
            timeout -= time.monotonic() - began
        with image_names([source.name for source in body.input]):
            reply = await vision.call(task.method, request, timeout)
        if body.annotate and len(reply.results) == 1 and _wants_picture(accept):
            return Response(reply.results[0].image.annotated, media_type="image/jpeg")
        return Response(await _to_json(task, reply), media_type="application/json")

    @router.post("/v1/classify", **_documented(ClassifyRequest, ClassifyResponse))
    async def classify(body: ClassifyRequest, timeout_ms: TimeoutMs = None, accept: Accept = "") -> Response:
        """Return the most likely classes of every image."""
        return await answer(CLASSIFY, body, timeout_ms, accept)

    @router.post("/v1/detect", **_documented(DetectRequest, DetectResponse))
    async def detect(body: DetectRequest, timeout_ms: TimeoutMs = None, accept: Accept = "") -> Response:
        """Return the objects of every image."""
        return await answer(DETECT, body, timeout_ms, accept)

    @router.post("/v1/page-elements", **_documented(DetectRequest, DetectResponse))
    async def page_elements(body: DetectRequest, timeout_ms: TimeoutMs = None, accept: Accept = "") -> Response:
        """Return the objects of every image: NIM's name of `/v1/detect`, answered by the detection model."""
        return await answer(DETECT, body, timeout_ms, accept)

    @router.post("/v1/faces", **_documented(FacesRequest, FacesResponse))
    async def faces(body: FacesRequest, timeout_ms: TimeoutMs = None, accept: Accept = "") -> Response:
        """Return the faces of every image."""
        return await answer(FACES, body, timeout_ms, accept)

    @router.post("/v1/ocr", **_documented(OcrRequest, OcrResponse))
    async def ocr(body: OcrRequest, timeout_ms: TimeoutMs = None, accept: Accept = "") -> Response:
        """Return the lines of text of every image."""
        return await answer(OCR, body, timeout_ms, accept)

    @router.post("/v1/infer", **_documented(InferRequest, InferResponse, model="efficientnet-lite0"))
    async def infer(body: InferRequest, timeout_ms: TimeoutMs = None, accept: Accept = "") -> Response:
        """Do what the model is for: NIM's first name of all vision routes."""
        task = await _task_of(body.model, vision, directory, seconds(timeout_ms))
        given = body.model_dump(exclude_unset=True, exclude={"input"})
        return await answer(task, task.body.model_validate({**given, "input": body.input}), timeout_ms, accept)

    return router


async def _task_of(model: str | None, vision: Backend, directory: Directory, timeout: float | None) -> Task:
    """Return what `model` does, as soon as the service serves.

    Raises INVALID_ARGUMENT that lists the vision models, NOT_FOUND, UNAVAILABLE.
    """
    if not vision.serving:
        await vision.pick(deadline=math.inf if timeout is None else time.monotonic() + timeout)
    card = None if model is None else await directory.find(model)
    if card is not None and card.task in TASKS:
        return TASKS[card.task]
    known = sorted(card.id for card in await directory.cards() if card.task in TASKS)
    if not known:
        raise vision.unavailable()
    sentence = "model is required" if card is None else f"model '{card.id}' does not take images"
    raise invalid("model", f"{sentence}; loaded vision models: {', '.join(known)}")


async def _to_proto(task: Task, body: ImagesRequest, remote: RemoteImages, timeout: float | None) -> Any:
    """Return the request as the service takes it, with every image loaded within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            loaded = await images.load(body.input, remote)
    except TimeoutError:
        message = "the deadline passed while the images were loaded"
        raise ServiceError(Kind.DEADLINE_EXCEEDED, message) from None
    parameters = body.model_dump(exclude=_NOT_SENT, exclude_none=True)
    return task.method.request(images=[pb.Image(data=data) for data in loaded], **parameters)


def _wants_picture(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return bool(kinds & {"image/jpeg", "image/*"}) and "application/json" not in kinds


async def _to_json(task: Task, reply: Any) -> bytes:
    """Return the JSON body. Other requests get a turn between annotated images."""
    rows = []
    for result in reply.results:
        info = result.image
        row = {"index": info.index, "width": info.width, "height": info.height, **task.row(result)}
        if info.annotated:
            row["annotated_image"] = f"data:image/jpeg;base64,{pybase64.b64encode_as_string(info.annotated)}"
            await asyncio.sleep(0)
        rows.append(row)
    usage = {
        "images": reply.usage.images,
        "pixels": reply.usage.pixels,
        "images_size_mb": reply.usage.bytes / 1_000_000,
    }
    body = {"object": "list", "data": rows, "model": reply.model, "usage": usage}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


# A float of the service is written with the digits that float32 has, as np.float32.
def _classes(result: pb.ClassifyResult) -> dict[str, Any]:
    return {"classifications": [{"label": it.label, "score": np.float32(it.score)} for it in result.classifications]}


def _objects(result: pb.DetectResult) -> dict[str, Any]:
    boxes: dict[str, list[dict[str, Any]]] = {}
    for found in result.detections:
        boxes.setdefault(found.label, []).append(_box(found))
    return {"bounding_boxes": boxes}


def _faces(result: pb.DetectFacesResult) -> dict[str, Any]:
    faces = [{**_box(face), "landmarks": [_point(point) for point in face.landmarks]} for face in result.faces]
    return {"bounding_boxes": {"face": faces}}


def _lines(result: pb.ReadTextResult) -> dict[str, Any]:
    return {"text_detections": [_line(line) for line in result.lines]}


def _line(line: pb.TextLine) -> dict[str, Any]:
    return {
        "text_prediction": {"text": line.text, "confidence": np.float32(line.confidence)},
        "bounding_box": {"type": "quadrilateral", "points": [_point(point) for point in line.corners]},
    }


def _box(found: pb.Detection | pb.Face) -> dict[str, Any]:
    sides = {side: np.float32(getattr(found.box, side)) for side in ("x_min", "y_min", "x_max", "y_max")}
    return {**sides, "confidence": np.float32(found.confidence)}


def _point(point: pb.Point) -> dict[str, Any]:
    return {"x": np.float32(point.x), "y": np.float32(point.y)}


CLASSIFY = Task(Method(f"{_SERVICE}Classify", pb.ClassifyRequest, pb.ClassifyResponse), ClassifyRequest, _classes)
DETECT = Task(Method(f"{_SERVICE}Detect", pb.DetectRequest, pb.DetectResponse), DetectRequest, _objects)
OCR = Task(Method(f"{_SERVICE}ReadText", pb.ReadTextRequest, pb.ReadTextResponse), OcrRequest, _lines)
FACES = Task(Method(f"{_SERVICE}DetectFaces", pb.DetectFacesRequest, pb.DetectFacesResponse), FacesRequest, _faces)
TASKS: dict[int, Task] = {
    pb.TASK_CLASSIFY: CLASSIFY,
    pb.TASK_DETECT: DETECT,
    pb.TASK_READ_TEXT: OCR,
    pb.TASK_DETECT_FACES: FACES,
}


def _documented(body: type[ImagesRequest], response: type[BaseModel], model: str | None = None) -> dict[str, Any]:
    """Return the OpenAPI description of a route: what the signature does not say of forms, raw images and queries."""
    properties = body.model_json_schema()["properties"]
    parameters = {name: _without_null(schema) for name, schema in properties.items() if name != "input"}
    upload = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": MOST_IMAGES}
    form = {
        "type": "object",
        "properties": {**dict.fromkeys(FILE_FIELDS, upload), **parameters},
        "anyOf": [{"required": [name]} for name in FILE_FIELDS],
        "additionalProperties": False,
    }
    named = {} if model is None else {"model": model}
    example = {**named, "input": [{"type": "image_url", "url": _EXAMPLE}]}
    content = {
        "application/json": {"example": example},
        "multipart/form-data": {"schema": form},
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    }
    query = [
        {"name": name, "in": "query", "schema": schema, "description": "For a form or an image as the body."}
        for name, schema in parameters.items()
    ]
    picture = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "responses": {200: {"model": response, "content": picture}, **RESPONSES},
        "openapi_extra": {"requestBody": {"content": content}, "parameters": query},
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter for a form, which has no null: there it is left out."""
    kind: dict[str, Any] = next((kind for kind in schema.get("anyOf", ()) if kind["type"] != "null"), {})
    return {key: value for key, value in {**schema, **kind}.items() if key not in {"anyOf", "default"}}
