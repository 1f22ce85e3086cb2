"""Pictures through the whole fleet: over HTTP in every way and format, what they show, and what is refused."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator

import grpc
import httpx
import numpy as np
import psutil
import pytest
from flotilla.vision.v1 import vision_pb2 as pb
from flotilla.vision.v1 import vision_pb2_grpc
from PIL import Image

from services.common.ports import free_ports
from tests.bad_calls import assert_names, refused
from tests.bad_requests import assert_refused
from tests.e2e.vision_requests import (
    BAD_CALLS,
    BAD_REQUESTS,
    BOMB,
    COFFEE,
    FORMATS,
    LINES,
    PAGE,
    ROUTES,
    SMALL,
    WAYS,
    as_body,
    as_form,
    as_json,
    by_url,
    images,
)
from tests.processes import descendants
from tests.unit.vision.pictures import encoded
from tools.export.pages import page
from tools.export.photographs import carried, photographs
from tools.fleet.private import PrivateFleet, private_fleet

CATS = {"tabby", "tiger cat", "Egyptian cat", "lynx"}
MB = 2**20


@pytest.fixture(scope="module")
def inside_port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory, inside_port: int) -> AsyncIterator[PrivateFleet]:
    """A fleet that may fetch from a host which turns out to be inside."""
    allowed = {"FLOTILLA_GATEWAY_IMAGE_URL_HOSTS": f"localhost:{inside_port},127.0.0.1:{inside_port}"}
    async with private_fleet(tmp_path_factory.mktemp("fleet"), allowed, services=["vision"]) as running:
        yield running


@pytest.fixture
async def http(fleet: PrivateFleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fleet.url, trust_env=False, timeout=120) as client:
        yield client


@pytest.fixture
async def stub(fleet: PrivateFleet) -> AsyncIterator[vision_pb2_grpc.VisionServiceStub]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{fleet.process('gateway').grpc_port}") as channel:
        yield vision_pb2_grpc.VisionServiceStub(channel)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The photographs as JPEG."""
    return {name: encoded(image, "JPEG", quality=92) for name, image in photographs().items()}


async def post(http: httpx.AsyncClient, route: str, request) -> dict:
    response = await http.post(route, **request)
    assert response.status_code == 200, response.text
    return response.json()


async def row(http: httpx.AsyncClient, route: str, request) -> dict:
    (found,) = (await post(http, route, request))["data"]
    return found


async def assert_works(http: httpx.AsyncClient) -> None:
    found = await row(http, "/v1/classify", as_form(COFFEE))
    assert found["classifications"][0]["label"] == "espresso"


def texts(found: dict) -> list[str]:
    return [line["text_prediction"]["text"] for line in found["text_detections"]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_takes_every_way_and_answers_the_same(http, route, way):
    body = await post(http, route, WAYS[way](COFFEE))
    assert body["model"] == ROUTES[route]
    assert body["usage"] == {"images": 1, "pixels": 600 * 400, "images_size_mb": len(COFFEE) / 1e6}
    (found,) = body["data"]
    assert (found["index"], found["width"], found["height"]) == (0, 600, 400)
    expected = await row(http, route, as_form(COFFEE))
    assert found.keys() == expected.keys()
    if route == "/v1/classify":
        assert [c["label"] for c in found["classifications"]] == [c["label"] for c in expected["classifications"]]
    elif "bounding_boxes" in found:
        assert found["bounding_boxes"].keys() == expected["bounding_boxes"].keys()


@pytest.mark.parametrize("model", sorted(set(ROUTES.values())))
async def test_infer_does_what_the_model_is_for(http, model):
    body = await post(http, "/v1/infer", as_form(COFFEE, model=model))
    assert (body["model"], len(body["data"])) == (model, 1)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("coffee", {"espresso"}),
        ("chelsea", CATS),
        ("china", {"palace"}),
        ("flower", {"daisy"}),
        ("rocket", {"missile", "projectile"}),
    ],
)
async def test_classes(http, files, name, labels):
    found = (await row(http, "/v1/classify", as_form(files[name])))["classifications"]
    assert found[0]["label"] in labels
    assert len(found) == 5


@pytest.mark.parametrize(
    ("name", "label", "box"),
    [
        ("chelsea", "cat", (0.0, 0.0, 0.9, 1.0)),
        ("astronaut", "person", (0.02, 0.02, 0.72, 1.0)),
        ("coffee", "cup", (0.3, 0.03, 0.7, 0.6)),
    ],
)
async def test_objects(http, files, name, label, box):
    found = (await row(http, "/v1/detect", as_form(files[name])))["bounding_boxes"]
    best = max(found[label], key=lambda one: one["confidence"])
    assert best["confidence"] > 0.7
    assert [best[side] for side in ("x_min", "y_min", "x_max", "y_max")] == pytest.approx(box, abs=0.06)


async def test_the_face_of_the_astronaut_and_no_other(http, files):
    (face,) = (await row(http, "/v1/faces", as_form(files["astronaut"])))["bounding_boxes"]["face"]
    assert (face["x_min"], face["y_min"]) == pytest.approx((0.355, 0.114), abs=0.03)
    assert (face["x_max"], face["y_max"]) == pytest.approx((0.527, 0.347), abs=0.03)
    left_eye, right_eye, nose, *_ = face["landmarks"]
    assert left_eye["x"] < nose["x"] < right_eye["x"]
    assert (await row(http, "/v1/faces", as_form(files["coffee"])))["bounding_boxes"] == {"face": []}


async def test_every_line_of_a_rendered_page_exactly(http):
    found = await row(http, "/v1/ocr", as_form(PAGE))
    assert texts(found) == list(LINES)
    for line in found["text_detections"]:
        top_left, top_right, bottom_right, bottom_left = line["bounding_box"]["points"]
        assert top_left["x"] < top_right["x"] == pytest.approx(bottom_right["x"], abs=0.02)
        assert top_left["y"] < bottom_left["y"]


async def test_most_of_a_scanned_page(http):
    read = " ".join(texts(await row(http, "/v1/ocr", as_form(encoded(carried("page"))))))
    for words in (
        "Region-based segmentation",
        "Let us first determine markers of the coins and the",
        "background. These markers are pixels that we can label",
        "unambiguously as either object or background. Here,",
        "histogram of grey values",
    ):
        assert words in read


@pytest.mark.parametrize("kind", FORMATS)
async def test_every_format(http, files, kind):
    def stored(image: Image.Image) -> bytes:
        return encoded(image, kind)

    pictures = photographs()
    classes, objects, faces, read = await asyncio.gather(
        row(http, "/v1/classify", as_form(stored(pictures["coffee"]))),
        row(http, "/v1/detect", as_form(stored(pictures["chelsea"]))),
        row(http, "/v1/faces", as_form(stored(pictures["astronaut"]))),
        row(http, "/v1/ocr", as_form(stored(page(LINES, size=22)))),
    )
    assert classes["classifications"][0]["label"] == "espresso"
    assert max(objects["bounding_boxes"]["cat"], key=lambda one: one["confidence"])["confidence"] > 0.6
    assert len(faces["bounding_boxes"]["face"]) == 1
    assert texts(read) == list(LINES)


@pytest.mark.parametrize("route", ROUTES)
async def test_annotated_pictures(http, files, route):
    file = PAGE if route == "/v1/ocr" else files["astronaut"]
    plain = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)
    url = (await row(http, route, as_form(file, annotate="true")))["annotated_image"]
    head, _, coded = url.partition(",")
    assert head == "data:image/jpeg;base64"
    request = as_body(file, annotate="true")
    alone = await http.post(route, **{**request, "headers": {**request["headers"], "accept": "image/jpeg"}})
    assert alone.headers["content-type"] == "image/jpeg"
    for drawn in (base64.b64decode(coded), alone.content):
        pixels = np.asarray(Image.open(io.BytesIO(drawn))).astype(int)
        assert pixels.shape == plain.shape
        assert np.abs(pixels - plain).max() > 80, "something is drawn"


async def test_several_images_keep_their_order(http, files):
    body = await post(http, "/v1/classify", as_json(files["coffee"], files["flower"], files["china"], top_k=1))
    assert [found["index"] for found in body["data"]] == [0, 1, 2]
    assert [found["classifications"][0]["label"] for found in body["data"]] == ["espresso", "daisy", "palace"]


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_bad_requests_are_refused_by_name_and_the_next_one_works(http, case):
    route, request, param = BAD_REQUESTS[case]
    assert_refused(await http.post(route, **request), 400, param)
    await assert_works(http)


@pytest.mark.parametrize("case", BAD_CALLS)
async def test_bad_calls_are_refused_by_name_over_grpc_too(http, stub, case):
    method, fields, field = BAD_CALLS[case]
    assert_names(await refused(getattr(stub, method)(getattr(pb, f"{method}Request")(**fields))), field)
    await assert_works(http)


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "[::1]", "localhost", "127.0.0.1"])
async def test_hosts_that_are_not_named_or_are_inside_are_not_asked(http, inside_port, host):
    asked = []
    server = await asyncio.start_server(lambda *connection: asked.append(connection), "127.0.0.1", inside_port)
    async with server:
        response = await http.post("/v1/classify", **by_url(f"http://{host}:{inside_port}/cat.jpg"))
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "input[0].url", "image_url_refused")
    assert not asked
    await assert_works(http)


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000)])
@pytest.mark.parametrize("route", ROUTES)
async def test_odd_sizes_are_answered(http, route, size):
    found = await row(http, route, as_form(encoded(Image.new("RGB", size, (90, 120, 200)))))
    assert (found["width"], found["height"]) == size


async def test_a_wrong_name_and_media_type_are_no_matter(http):
    request = {"files": {"file": ("photo.jpg", encoded(Image.open(io.BytesIO(COFFEE)), "PNG"), "image/gif")}}
    assert (await row(http, "/v1/classify", request))["classifications"][0]["label"] == "espresso"


async def test_the_same_over_grpc(stub, files):
    response = await stub.Classify(pb.ClassifyRequest(images=images(files["coffee"], files["flower"]), top_k=1))
    assert [result.classifications[0].label for result in response.results] == ["espresso", "daisy"]


async def test_bombs_cost_no_memory(fleet, http):
    await assert_works(http)
    service, gateway = (psutil.Process(fleet.process(name).pid) for name in ("vision", "gateway"))
    processes = [service, gateway, *descendants(service.pid)]
    before = [process.memory_info().rss for process in processes]
    largest = encoded(Image.new("L", (7000, 7000)))
    for _ in range(3):
        responses = await asyncio.gather(
            *(http.post("/v1/ocr", **as_json(*[BOMB] * 64)) for _ in range(8)),
            *(http.post("/v1/classify", **as_json(*[SMALL] * 1000)) for _ in range(4)),
            http.post("/v1/classify", **as_form(largest)),
        )
        assert [response.status_code for response in responses] == [400] * 12 + [200]
    grown = [process.memory_info().rss - was for process, was in zip(processes, before, strict=True)]
    assert max(grown) < 200 * MB, [size // MB for size in grown]
    await assert_works(http)
