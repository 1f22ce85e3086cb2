"""The vision routes: NIM's shapes, three forms of request, and what is refused."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from flotilla.vision.v1 import vision_pb2 as pb

from services.common.errors import TABLE, Kind, ServiceError
from services.gateway.schemas import vision as schemas
from tests.bad_requests import JSON, assert_refused
from tests.integration.gateway.fake_embedding import MODEL, FakeEmbedding
from tests.integration.gateway.fake_vision import (
    CLASSIFIER,
    DETECTOR,
    FACE_FINDER,
    HEIGHT,
    JPEG,
    READER,
    WIDTH,
    FakeVision,
)
from tests.integration.gateway.gateway import Gateway, running

IMAGE = b"the bytes of a file"
TEXT = base64.b64encode(IMAGE).decode()
URL = f"data:image/png;base64,{TEXT}"
ITEM = {"type": "image_url", "url": URL}
FILE = {"file": ("photo.jpg", IMAGE, "image/jpeg")}
BOX = {"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}
CORNERS = [{"x": 0.1, "y": 0.2}, {"x": 0.9, "y": 0.2}, {"x": 0.9, "y": 0.3}, {"x": 0.1, "y": 0.3}]
ROWS: dict[str, dict[str, Any]] = {
    "classify": {"classifications": [{"label": "cat", "score": 0.9}, {"label": "dog", "score": 0.05}]},
    "detect": {
        "bounding_boxes": {
            "cat": [{**BOX, "confidence": 0.9}, {**BOX, "confidence": 0.7}],
            "cup": [{**BOX, "confidence": 0.8}],
        }
    },
    "faces": {
        "bounding_boxes": {
            "face": [{**BOX, "confidence": 0.75, "landmarks": [{"x": i / 10, "y": 0.5} for i in range(5)]}]
        }
    },
    "ocr": {
        "text_detections": [
            {
                "text_prediction": {"text": "naïve 一", "confidence": 0.95},
                "bounding_box": {"type": "quadrilateral", "points": CORNERS},
            }
        ]
    },
}
ROWS["page-elements"] = ROWS["detect"]
MODEL_OF = {
    "classify": CLASSIFIER,
    "detect": DETECTOR,
    "page-elements": DETECTOR,
    "faces": FACE_FINDER,
    "ocr": READER,
}
ROUTES = pytest.mark.parametrize("route", MODEL_OF)


async def post(gateway: Gateway, route: str, **body: Any) -> httpx.Response:
    return await gateway.http.post(f"/v1/{route}", json={"input": [ITEM], **body})


async def assert_serves(gateway: Gateway) -> None:
    """The next request works."""
    assert (await post(gateway, "classify")).status_code == 200


@ROUTES
async def test_every_route_answers_in_its_shape(vision_gateway: Gateway, vision: FakeVision, route: str) -> None:
    response = await post(vision_gateway, route, input=[ITEM, ITEM])
    assert response.status_code == 200
    assert response.json() == {
        "object": "list",
        "data": [{"index": i, "width": WIDTH, "height": HEIGHT, **ROWS[route]} for i in range(2)],
        "model": MODEL_OF[route],
        "usage": {"images": 2, "pixels": 2 * WIDTH * HEIGHT, "images_size_mb": 2 * len(IMAGE) / 1e6},
    }
    assert [image.data for image in vision.requests[-1].images] == [IMAGE, IMAGE]


@pytest.mark.parametrize(
    ("route", "response"),
    [
        ("classify", schemas.ClassifyResponse),
        ("detect", schemas.DetectResponse),
        ("faces", schemas.FacesResponse),
        ("ocr", schemas.OcrResponse),
    ],
)
async def test_answers_are_what_openapi_says(
    vision_gateway: Gateway, route: str, response: type[schemas.VisionResponse]
) -> None:
    answer = (await post(vision_gateway, route, annotate=True)).json()
    assert response.model_validate(answer, extra="forbid").model_dump() == answer


@pytest.mark.parametrize("model", [CLASSIFIER, DETECTOR, READER, FACE_FINDER])
async def test_infer_does_what_the_model_is_for(vision_gateway: Gateway, model: str) -> None:
    body = (await post(vision_gateway, "infer", model=model)).json()
    route = next(route for route, name in MODEL_OF.items() if name == model)
    assert (body["model"], body["data"][0].items() >= ROWS[route].items()) == (model, True)


@pytest.mark.parametrize(
    ("change", "status", "param", "words"),
    [
        ({}, 400, "model", f"model is required; loaded vision models: {CLASSIFIER}"),
        ({"model": "nope"}, 404, "model", f"loaded: {CLASSIFIER}"),
        ({"model": READER, "iou_threshold": 0.5}, 400, "iou_threshold", "is not a parameter"),
        ({"model": READER, "top_k": 5}, 400, "top_k", "is not a parameter"),
        ({"model": FACE_FINDER, "labels": ["face"]}, 400, "labels", "is not a parameter"),
        ({"model": READER, "merge_levels": ["word"]}, 400, "merge_levels[0]", "sentence"),
    ],
)
async def test_infer_refuses_what_does_not_fit_the_model(
    vision_gateway: Gateway, change: dict[str, Any], status: int, param: str, words: str
) -> None:
    assert_refused(await post(vision_gateway, "infer", **change), status, param, words)


async def test_infer_names_a_model_that_takes_no_images(vision: FakeVision, embedding: FakeEmbedding) -> None:
    async with running(embedding.address, vision_addresses=vision.address) as gateway:
        assert_refused(await post(gateway, "infer", model=MODEL), 400, "model", "does not take images")
        assert_refused(await post(gateway, "infer"), 400, "model", "loaded vision models: fake-classifier")


@pytest.mark.parametrize(
    "given",
    [
        ITEM,
        [ITEM],
        URL,
        [URL],
        TEXT,
        [TEXT],
        [{"url": URL}],
        [{"type": "image_url", "image_url": {"url": URL}}],
        [{"type": "image_url", "image_url": URL}],
        [{"type": "image_url", "url": f"DATA:IMAGE/PNG;charset=x;BASE64,{TEXT}"}],
    ],
)
async def test_every_form_of_input_reaches_the_service(vision_gateway: Gateway, vision: FakeVision, given: Any) -> None:
    assert (await post(vision_gateway, "classify", input=given)).status_code == 200
    assert [image.data for image in vision.requests[-1].images] == [IMAGE]


@pytest.mark.parametrize(
    ("route", "parameters", "sent"),
    [
        (
            "classify",
            {"top_k": 3, "threshold": 0.25, "labels": ["cat", "dog"], "annotate": True},
            pb.ClassifyRequest(top_k=3, threshold=0.25, labels=["cat", "dog"], annotate=True),
        ),
        (
            "detect",
            {"model": DETECTOR, "top_k": 3, "threshold": 0.0, "iou_threshold": 0.5, "labels": ["cat"]},
            pb.DetectRequest(model=DETECTOR, top_k=3, threshold=0, iou_threshold=0.5, labels=["cat"]),
        ),
        ("ocr", {"threshold": 1, "merge_levels": ["sentence"]}, pb.ReadTextRequest(threshold=1)),
        ("faces", {"threshold": 0.5, "top_k": 1000}, pb.DetectFacesRequest(threshold=0.5, top_k=1000)),
        ("faces", {}, pb.DetectFacesRequest()),
    ],
)
async def test_parameters_reach_the_service_from_every_form_of_request(
    vision_gateway: Gateway, vision: FakeVision, route: str, parameters: dict[str, Any], sent: Any
) -> None:
    sent.images.add(data=IMAGE)
    text = {
        name: ",".join(value) if isinstance(value, list) else str(value).lower() if value is True else str(value)
        for name, value in parameters.items()
    }
    path = f"/v1/{route}"
    for response in (
        await post(vision_gateway, route, **parameters),
        await vision_gateway.http.post(path, files=FILE, data=parameters),
        await vision_gateway.http.post(path, files=FILE, data=text),
        await vision_gateway.http.post(path, files=FILE, params=text),
        await vision_gateway.http.post(path, content=IMAGE, headers={"content-type": "image/jpeg"}, params=text),
    ):
        assert response.status_code == 200, response.text
        assert vision.requests[-1] == sent


async def test_uploads_of_every_field_arrive_in_order(vision_gateway: Gateway, vision: FakeVision) -> None:
    files = [(field, (None if i == 9 else "a.jpg", f"{i}".encode())) for i, field in enumerate(("file", "image") * 2)]
    assert (await vision_gateway.http.post("/v1/classify", files=[*files, ("files", ("b", b"4"))])).status_code == 200
    assert [image.data for image in vision.requests[-1].images] == [b"0", b"1", b"2", b"3", b"4"]


@ROUTES
async def test_annotated_images_come_as_data_urls(vision_gateway: Gateway, route: str) -> None:
    expected = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
    rows = (await post(vision_gateway, route, input=[ITEM, ITEM], annotate=True)).json()["data"]
    assert [row["annotated_image"] for row in rows] == [expected, expected]
    assert "annotated_image" not in (await post(vision_gateway, route)).json()["data"][0]


@pytest.mark.parametrize(
    ("accept", "images", "is_picture"),
    [
        ("image/jpeg", 1, True),
        ("image/*;q=0.9, text/html", 1, True),
        ("image/jpeg", 2, False),
        ("*/*", 1, False),
        ("image/jpeg, application/json", 1, False),
    ],
)
async def test_one_annotated_image_is_the_answer_to_who_accepts_only_that(
    vision_gateway: Gateway, accept: str, images: int, is_picture: bool
) -> None:
    response = await vision_gateway.http.post(
        "/v1/detect", json={"input": [ITEM] * images, "annotate": True}, headers={"accept": accept}
    )
    assert response.headers["content-type"] == ("image/jpeg" if is_picture else "application/json")
    assert (response.content == JPEG) is is_picture


def wrapped(text: str) -> str:
    return base64.encodebytes(text.encode() * 50).decode()


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ([], "input", "must not be empty"),
        ([ITEM] * 1000, "input", "has 1000 items; it takes 1 to 64"),
        (None, "input[0]", "must be an object"),
        ([ITEM, 7], "input[1]", "must be an object"),
        ([{"type": "text", "text": "a"}], "input[0].type", "image_url"),
        ([{**ITEM, "detail": "high"}], "input[0].detail", "is not a parameter"),
        ([{"type": "image_url"}], "input[0].url", "must be a string"),
        ([{"type": "image_url", "image_url": {}}], "input[0].image_url.url", "must be a string"),
        ([{**ITEM, "image_url": URL}], "input[0]", "either"),
        (["data:image/svg+xml;base64,PHN2Zz4="], "input[0]", "SVG"),
        ([{"url": "data:image/svg+xml,<svg>"}], "input[0].url", "SVG"),
        ([{"url": "data:text/plain;base64,aGVsbG8="}], "input[0].url", "text/plain"),
        ([{"url": "data:;base64,aGVsbG8="}], "input[0].url", "must be an image"),
        ([{"url": "data:image/png,hello"}], "input[0].url", "data URL with base64"),
        ([{"url": "data:image/png;base64"}], "input[0].url", "data URL with base64"),
        ([{"url": "data:image/png;base64,"}], "input[0].url", "is empty"),
        ([""], "input[0]", "is empty"),
        ([{"url": URL[:-1]}], "input[0].url", "not a multiple of 4"),
        ([{"url": "data:image/png;base64,aGVs*G8="}], "input[0].url", "is not base64"),
        ([{"url": "data:image/png;base64,aG==aGVs"}], "input[0].url", "is not base64"),
        ([{"url": "data:image/png;base64,===="}], "input[0].url", "is not base64"),
        ([{"url": "data:image/png;base64,aGVsbGé="}], "input[0].url", "is not base64"),
        ([{"url": "data:image/png;base64," + wrapped("hello")}], "input[0].url", "base64 -w0"),
        (["\ud800"], "input[0]", "is not base64"),
        (["file:///etc/passwd"], "input[0]", "http or https"),
        (["http://127.0.0.1/a.png"], "input[0]", "FLOTILLA_GATEWAY_IMAGE_URL_HOSTS"),
        ([{"url": "https://example.com/a.png"}], "input[0].url", "'example.com'"),
        ([TEXT, base64.b64encode(b"broken").decode()], "input[1]", "is no image"),
    ],
)
async def test_bad_input_is_refused_by_name_and_the_next_request_works(
    vision_gateway: Gateway, given: Any, param: str, words: str
) -> None:
    response = await vision_gateway.http.post("/v1/classify", content=json.dumps({"input": given}), headers=JSON)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]
    assert error["message"].startswith(param)
    await assert_serves(vision_gateway)


BAD_PARAMETERS: list[tuple[str, str, Any, str]] = [
    ("classify", "threshold", "NaN", "finite"),
    ("classify", "threshold", 1.5, "less than or equal to 1"),
    ("classify", "threshold", -0.1, "greater than or equal to 0"),
    ("classify", "threshold", "high", "number"),
    ("classify", "top_k", 0, "greater than or equal to 1"),
    ("classify", "top_k", 100_000, "less than or equal to 1000"),
    ("classify", "top_k", 1.5, "integer"),
    ("classify", "iou_threshold", 0.5, "is not a parameter"),
    ("classify", "annotate", "maybe", "true or false"),
    ("classify", "model", "", "must not be empty"),
    ("classify", "model", "nope", "not loaded"),
    ("classify", "nonsense", 1, "is not a parameter"),
    ("detect", "iou_threshold", "NaN", "finite"),
    ("faces", "labels", "cat", "is not a parameter"),
    ("ocr", "top_k", 5, "is not a parameter"),
]


@pytest.mark.parametrize("bad", BAD_PARAMETERS, ids=lambda bad: "-".join(map(str, bad[:3])))
@pytest.mark.parametrize("form", ["json", "multipart", "query"])
async def test_bad_parameters_are_refused_in_every_form_of_request(
    vision_gateway: Gateway, form: str, bad: tuple[str, str, Any, str]
) -> None:
    route, name, value, words = bad
    path = f"/v1/{route}"
    if form == "json":
        raw = json.dumps({"input": [ITEM], name: value}).replace('"NaN"', "NaN")
        response = await vision_gateway.http.post(path, content=raw, headers=JSON)
    elif form == "multipart":
        response = await vision_gateway.http.post(path, files=FILE, data={name: str(value)})
    else:
        response = await vision_gateway.http.post(
            path, content=IMAGE, headers={"content-type": "image/png"}, params={name: value}
        )
    assert_refused(response, 404 if value == "nope" else 400, name, words)
    await assert_serves(vision_gateway)


async def test_json_values_are_not_converted(vision_gateway: Gateway) -> None:
    for name, value in (("top_k", "5"), ("threshold", "0.5"), ("annotate", "true"), ("labels", "cat")):
        assert_refused(await post(vision_gateway, "classify", **{name: value}), 400, name, "must be")


@pytest.mark.parametrize("levels", [["word"], ["paragraph"], ["sentence", "sentence"], []])
async def test_merge_levels_that_cannot_be_honoured_are_refused(vision_gateway: Gateway, levels: list[str]) -> None:
    response = await post(vision_gateway, "ocr", merge_levels=levels)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("merge_levels")


def part(head: str, body: bytes) -> bytes:
    return b"--x\r\ncontent-disposition: form-data; " + head.encode() + b"\r\n\r\n" + body + b"\r\n"


UPLOAD = part('name="file"; filename="a.jpg"', IMAGE)


@pytest.mark.parametrize(
    ("raw", "content_type", "param", "words"),
    [
        (b"", "boundary=x", None, "cannot be read"),
        (UPLOAD, "boundary=x", None, "before its last boundary"),
        (UPLOAD[:-9], "boundary=x", None, "before its last boundary"),
        (UPLOAD + b"--x--", "charset=x", None, "Missing boundary"),
        (UPLOAD + b"--x--", "boundary=" + "y" * 500, None, "cannot be read"),
        (b"nonsense", "boundary=x", None, "cannot be read"),
        (part("filename=a", IMAGE) + b"--x--", "boundary=x", None, "cannot be read"),
        (b"--x--\r\n", "boundary=x", "file", "file is required"),
        (part('name="top_k"', b"5") + b"--x--", "boundary=x", "file", "file is required"),
        (part('name="file"', IMAGE) + b"--x--", "boundary=x", "file", "with a file name"),
        (part('name="photo"; filename="a"', IMAGE) + b"--x--", "boundary=x", "photo", "no field for an upload"),
        (part('name="file"; filename="a"', b"") + b"--x--", "boundary=x", "file", "is empty"),
        (part('name="image"; filename="a"', b"broken") + b"--x--", "boundary=x", "image", "is no image"),
        (UPLOAD + part('name="file"; filename=b', b"broken") + b"--x--", "boundary=x", "file[1]", "is no image"),
        (UPLOAD * 1000 + b"--x--", "boundary=x", "file", "1 to 64"),
        (UPLOAD + part('name="top_k"', b"5") * 2 + b"--x--", "boundary=x", "top_k", "given twice"),
        (UPLOAD + part('name="a"', b"5") * 1000 + b"--x--", "boundary=x", None, "Too many fields"),
        (UPLOAD + part('name="model"', b"m" * 100_000) + b"--x--", "boundary=x", None, "maximum size"),
        (UPLOAD + part('name="input"', TEXT.encode()) + b"--x--", "boundary=x", "input", "JSON bodies"),
        (UPLOAD + part('name="labels"', b"cat,,dog") + b"--x--", "boundary=x", "labels[1]", "must not be empty"),
    ],
)
async def test_forms_that_are_no_request(
    vision_gateway: Gateway, raw: bytes, content_type: str, param: str | None, words: str
) -> None:
    headers = {"content-type": f"multipart/form-data; {content_type}"}
    response = await vision_gateway.http.post("/v1/classify", content=raw, headers=headers)
    assert_refused(response, 400, param, words)
    await assert_serves(vision_gateway)


@pytest.mark.parametrize(
    ("raw", "content_type", "status", "words"),
    [
        (b"", "image/jpeg", 400, "body is empty"),
        (b"broken", "image/jpeg", 400, "body is no image"),
        (b"<svg/>", "image/svg+xml", 400, "SVG"),
        (IMAGE, "application/x-www-form-urlencoded", 415, "multipart/form-data"),
        (IMAGE, "text/plain", 415, "image/*"),
    ],
)
async def test_raw_bodies_that_are_no_image(
    vision_gateway: Gateway, raw: bytes, content_type: str, status: int, words: str
) -> None:
    response = await vision_gateway.http.post("/v1/classify", content=raw, headers={"content-type": content_type})
    assert response.status_code == status
    assert words in response.json()["error"]["message"]
    await assert_serves(vision_gateway)


async def test_a_parameter_beside_a_json_body_is_refused(vision_gateway: Gateway) -> None:
    response = await vision_gateway.http.post("/v1/detect?annotate=true", json={"input": [ITEM]})
    assert_refused(response, 400, "annotate", "JSON body")


async def test_a_parameter_in_query_and_form_is_refused(vision_gateway: Gateway) -> None:
    response = await vision_gateway.http.post("/v1/detect?top_k=5", files=FILE, data={"top_k": "6"})
    assert_refused(response, 400, "top_k", "twice")


@pytest.mark.parametrize("form", ["json", "multipart"])
async def test_a_large_image_arrives_whole(vision_gateway: Gateway, vision: FakeVision, form: str) -> None:
    image = bytes(range(256)) * 40_000 + b"z"  # over 10 MB, and no multiple of 3
    if form == "json":
        body = {"input": "data:image/png;base64," + base64.b64encode(image).decode()}
        response = await vision_gateway.http.post("/v1/classify", json=body)
    else:
        response = await vision_gateway.http.post("/v1/classify", files={"file": ("a.png", image)})
    assert response.status_code == 200
    assert vision.requests[-1].images[0].data == image


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "image/png"])
async def test_a_body_over_the_limit_is_413(vision: FakeVision, content_type: str) -> None:
    async with running(vision_addresses=vision.address, body_limit_bytes=4096) as gateway:
        raw = part('name="file"; filename="a"', b"a" * 5000)
        headers = {"content-type": content_type}
        assert (await gateway.http.post("/v1/ocr", content=raw, headers=headers)).status_code == 413
        await assert_serves(gateway)
    assert len(vision.requests) == 1


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NOT_STARTED], ids=lambda kind: kind.name)
async def test_errors_of_the_service_keep_their_row_and_get_the_callers_names(
    vision_gateway: Gateway, vision: FakeVision, kind: Kind
) -> None:
    message = "images[1].data is odd, unlike images[0]"
    vision.error = ServiceError(kind, message, field="images[1].data", code="odd", retry_after=1.2)
    response = await post(vision_gateway, "detect", input=[ITEM, ITEM])
    assert response.status_code == TABLE[kind].http
    assert response.json()["error"] == {
        "message": "input[1] is odd, unlike input[0]",
        "type": TABLE[kind].openai,
        "param": "input[1]",
        "code": "odd",
    }
    files = [("file", ("a", IMAGE)), ("image", ("b", IMAGE))]
    assert (await vision_gateway.http.post("/v1/detect", files=files)).json()["error"]["param"] == "image"


async def test_an_error_about_all_images_gets_the_callers_name(vision_gateway: Gateway, vision: FakeVision) -> None:
    vision.error = ServiceError(Kind.INVALID_ARGUMENT, "images have too many pixels together", field="images")
    assert_refused(await post(vision_gateway, "ocr"), 400, "input", "input have too many")
    assert_refused(await vision_gateway.http.post("/v1/ocr", files=FILE), 400, "file", "file have too many")


async def test_without_the_service_the_routes_say_so() -> None:
    async with FakeVision().running() as gone:
        pass
    for addresses in (gone.address, ""):
        async with running(vision_addresses=addresses) as gateway:
            for route in (*MODEL_OF, "infer"):
                response = await post(gateway, route)
                assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")


async def test_the_deadline_reaches_the_service(vision_gateway: Gateway, vision: FakeVision) -> None:
    body, headers = {"input": [ITEM]}, {"x-flotilla-timeout-ms": "5000"}
    assert (await vision_gateway.http.post("/v1/ocr", json=body, headers=headers)).status_code == 200
    assert vision.remaining[-1] is not None
    assert vision.remaining[-1] < 6
    headers["x-flotilla-timeout-ms"] = "soon"
    assert_refused(await vision_gateway.http.post("/v1/ocr", files=FILE, headers=headers), 400, "x-flotilla-timeout-ms")


async def test_openapi_describes_all_forms_of_request(vision_gateway: Gateway) -> None:
    paths = (await vision_gateway.http.get("/openapi.json")).json()["paths"]
    for route in (*MODEL_OF, "infer"):
        post_ = paths[f"/v1/{route}"]["post"]
        content = post_["requestBody"]["content"]
        assert list(content) == ["application/json", "multipart/form-data", "image/*"]
        form = content["multipart/form-data"]["schema"]["properties"]
        query = {parameter["name"] for parameter in post_["parameters"] if parameter["in"] == "query"}
        assert form.keys() - {"file", "image", "files"} == query >= {"model", "annotate"}
        assert "image/jpeg" in post_["responses"]["200"]["content"]
        example = content["application/json"]["example"]
        if route != "infer":
            assert (await vision_gateway.http.post(f"/v1/{route}", json=example)).status_code == 200


async def test_many_requests_at_once_keep_their_images_apart(vision_gateway: Gateway, vision: FakeVision) -> None:
    async def send(i: int) -> None:
        response = await vision_gateway.http.post("/v1/classify", files={"file": ("a", b"x" * (i + 1))})
        assert response.json()["usage"]["images_size_mb"] == (i + 1) / 1e6

    await asyncio.gather(*(send(i) for i in range(50)))
