"""Known pictures through the whole service: classes, boxes, faces and text are where they are."""

import asyncio
import io

import numpy as np
import pytest
from flotilla.vision.v1 import vision_pb2 as pb
from PIL import Image

from services.common.triton import TritonClient
from tests.integration.vision.known_pictures import LINES, images, page, pictures, scan
from tests.unit.vision.pictures import TRANSPOSITIONS, encoded, oriented

PICTURES = pictures()
FORMATS = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}
AS_STORED = [
    *((f"{file_format}", lambda image, f=file_format: encoded(image, f, **FORMATS[f])) for file_format in FORMATS),
    *((f"orientation {n}", lambda image, n=n: oriented(image, n, quality=95, subsampling=0)) for n in TRANSPOSITIONS),
    ("CMYK JPEG", lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95)),
    ("alpha PNG", lambda image: encoded(image.convert("RGBA"))),
]


async def lines_of(stub, image):
    response = await stub.ReadText(pb.ReadTextRequest(images=images(image)))
    return [line.text for line in response.results[0].lines]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("coffee", {"espresso"}),
        ("chelsea", {"tabby", "tiger cat", "Egyptian cat"}),
        ("china", {"palace"}),
        ("flower", {"daisy"}),
    ],
)
async def test_classes(stub, name, labels):
    response = await stub.Classify(pb.ClassifyRequest(images=images(PICTURES[name])))
    (result,) = response.results
    assert result.classifications[0].label in labels
    assert len(result.classifications) == 5
    scores = [c.score for c in result.classifications]
    assert scores == sorted(scores, reverse=True)


async def test_scores_of_all_classes_add_up_to_one(stub):
    response = await stub.Classify(pb.ClassifyRequest(images=images(PICTURES["coffee"]), top_k=1000))
    assert sum(c.score for c in response.results[0].classifications) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "label", "box"),
    [
        ("chelsea", "cat", (0.0, 0.0, 0.9, 1.0)),
        ("astronaut", "person", (0.02, 0.02, 0.72, 1.0)),
        ("coffee", "cup", (0.3, 0.03, 0.7, 0.6)),
    ],
)
async def test_objects(stub, name, label, box):
    response = await stub.Detect(pb.DetectRequest(images=images(PICTURES[name])))
    best = response.results[0].detections[0]
    assert best.label == label
    assert best.confidence > 0.7
    assert (best.box.x_min, best.box.y_min, best.box.x_max, best.box.y_max) == pytest.approx(box, abs=0.06)


async def test_only_the_labels_that_are_asked_for(stub):
    request = pb.DetectRequest(images=images(PICTURES["coffee"]), threshold=0.05, labels=["bowl", "spoon"])
    assert {d.label for d in (await stub.Detect(request)).results[0].detections} <= {"bowl", "spoon"}


async def test_the_face_of_the_astronaut(stub):
    response = await stub.DetectFaces(pb.DetectFacesRequest(images=images(PICTURES["astronaut"])))
    (face,) = response.results[0].faces
    assert (face.box.x_min, face.box.y_min) == pytest.approx((0.355, 0.114), abs=0.02)
    assert (face.box.x_max, face.box.y_max) == pytest.approx((0.527, 0.347), abs=0.02)
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye.x < nose.x < right_eye.x
    assert left_mouth.x < nose.x < right_mouth.x
    assert max(left_eye.y, right_eye.y) < nose.y < min(left_mouth.y, right_mouth.y)


@pytest.mark.parametrize("times", [0.5, 1, 3])
async def test_a_small_or_large_face_is_found(stub, times):
    image = PICTURES["astronaut"].resize((int(512 * times), int(512 * times)))
    response = await stub.DetectFaces(pb.DetectFacesRequest(images=images(encoded(image, "JPEG"))))
    assert len(response.results[0].faces) == 1


@pytest.mark.parametrize("angle", [0, 4, -4, 90])
async def test_a_page_is_read_exactly(stub, angle):
    found = await lines_of(stub, page(angle=angle))
    assert (sorted(found) if angle == 90 else found) == (sorted(LINES) if angle == 90 else LINES)


async def test_corners_begin_where_reading_does(stub):
    response = await stub.ReadText(pb.ReadTextRequest(images=images(page(LINES[:1], angle=90))))
    (line,) = response.results[0].lines
    begin, end = line.corners[0], line.corners[1]
    assert begin.y > end.y + 0.3, "turned to the left, the line is read upwards"
    assert begin.x == pytest.approx(end.x, abs=0.1)


async def test_most_of_a_scan_is_read(stub):
    found = " ".join(await lines_of(stub, scan()))
    for words in (
        "Region-based segmentation",
        "markers of the coins",
        "histogram of grey values",
        "markers = np.zeros",
    ):
        assert words in found


async def test_a_page_without_text_has_no_lines(stub):
    assert await lines_of(stub, Image.new("RGB", (640, 480), "white")) == []


@pytest.mark.parametrize(("how", "store"), AS_STORED, ids=[name for name, _ in AS_STORED])
async def test_every_format_and_orientation_gives_the_same(stub, how, store):
    files = images(*(store(PICTURES[name]) for name in ("coffee", "chelsea", "astronaut")))
    classes, objects, faces, text = await asyncio.gather(
        stub.Classify(pb.ClassifyRequest(images=files)),
        stub.Detect(pb.DetectRequest(images=files)),
        stub.DetectFaces(pb.DetectFacesRequest(images=files)),
        stub.ReadText(pb.ReadTextRequest(images=images(store(page())))),
    )
    sizes = [(r.image.width, r.image.height) for r in classes.results]
    assert sizes == [(600, 400), (451, 300), (512, 512)]
    first = [r.classifications[0].label for r in classes.results]
    assert first[0] == "espresso"
    assert first[1] in {"tiger cat", "Egyptian cat"}
    assert [r.detections[0].label for r in objects.results] == ["cup", "cat", "person"]
    assert [r.detections[0].box.x_min for r in objects.results] == pytest.approx([0.29, 0.02, 0.02], abs=0.03)
    assert [len(r.faces) for r in faces.results] == [0, 0, 1]
    assert [line.text for line in text.results[0].lines] == LINES


async def test_large_pictures_give_the_same_as_small_ones(stub):
    large = [PICTURES[name].resize((3000, 2000)) for name in ("coffee", "flower")]
    small = [PICTURES[name].resize((600, 400)) for name in ("coffee", "flower")]
    for file_format in ("JPEG", "PNG"):
        files = images(*(encoded(image, file_format) for image in (*large, *small)))
        classes = (await stub.Classify(pb.ClassifyRequest(images=files))).results
        labels = [r.classifications[0].label for r in classes]
        assert labels == ["espresso", "daisy"] * 2
        objects = (await stub.Detect(pb.DetectRequest(images=files))).results
        assert [r.detections[0].label for r in (objects[0], objects[2])] == ["cup", "cup"]


async def test_annotated_pictures(stub):
    request = pb.DetectRequest(images=images(PICTURES["chelsea"].resize((3000, 2000))), annotate=True)
    (result,) = (await stub.Detect(request)).results
    with Image.open(io.BytesIO(result.image.annotated)) as drawn:
        assert drawn.format == "JPEG"
        assert drawn.width * drawn.height <= 2_010_000
        plain = PICTURES["chelsea"].resize(drawn.size)
        assert np.abs(np.asarray(drawn).astype(int) - np.asarray(plain)).max() > 100, "something is drawn"
    assert (result.image.width, result.image.height) == (3000, 2000)


async def test_a_stream_does_every_task(stub):
    files = images(PICTURES["astronaut"], page())
    for request, name in (
        (pb.InferStreamRequest(classify=pb.ClassifyRequest(images=files)), "classify"),
        (pb.InferStreamRequest(detect=pb.DetectRequest(images=files)), "detect"),
        (pb.InferStreamRequest(read_text=pb.ReadTextRequest(images=files)), "read_text"),
        (pb.InferStreamRequest(detect_faces=pb.DetectFacesRequest(images=files)), "detect_faces"),
    ):
        *answers, last = [m async for m in stub.InferStream(request)]
        assert sorted(getattr(m, name).image.index for m in answers) == [0, 1]
        assert last.usage.images == 2


async def test_a_stream_of_many_pictures(stub):
    small = images(PICTURES["coffee"].resize((150, 100)))
    request = pb.InferStreamRequest(classify=pb.ClassifyRequest(images=small * 300, top_k=1))
    *answers, last = [m async for m in stub.InferStream(request)]
    assert {m.classify.image.index for m in answers} == set(range(300))
    assert last.usage.images == 300


async def test_calls_at_the_same_time_share_batches(service, stub):
    async def count(part):
        return await service.metric(f"flotilla_batch_items_{part}", model="efficientnet_lite0")

    before = [await count("sum"), await count("count")]
    files = images(PICTURES["coffee"].resize((32, 32)))  # decoded at once: all of them wait for the engine
    await asyncio.gather(*(stub.Classify(pb.ClassifyRequest(images=files)) for _ in range(64)))
    items, batches = np.subtract([await count("sum"), await count("count")], before)
    assert items == 64
    assert items / batches >= 2


async def test_models_are_listed_with_their_graphs(stub):
    models = {m.id: m for m in (await stub.ListModels(pb.ListModelsRequest())).models}
    assert set(models) == {"efficientnet-lite0", "ssd-mobilenet-v2", "pp-ocrv6", "centerface"}
    assert list(models["pp-ocrv6"].triton_models) == ["pp_ocrv6_det", "pp_ocrv6_cls", "pp_ocrv6_rec"]
    assert len(models["efficientnet-lite0"].labels) == 1000
    assert {m.profile for m in models.values()} == {"cpu-fp32"}


async def test_a_raw_client_gets_the_same_logits(service, stub):
    pixels = np.asarray(PICTURES["coffee"].resize((224, 224)))[None]
    async with TritonClient(service.address) as client:
        logits = (await client.infer("efficientnet_lite0", {"pixels": pixels}, ["logits"]))["logits"]
        rows = await client.infer("pp_ocrv6_rec", {"pixels": np.zeros((2, 48, 320, 3), np.uint8)}, ["characters"])
    labels = next(m for m in (await stub.ListModels(pb.ListModelsRequest())).models if m.id == "efficientnet-lite0")
    assert labels.labels[int(logits.argmax())] == "espresso"
    assert rows["characters"].shape[0] == 2
