"""The servicer over tasks that answer from memory: validation, order, usage, errors of single pictures."""

import io
from contextlib import asynccontextmanager

import numpy as np
import pytest
from flotilla.vision.v1 import vision_pb2 as pb
from PIL import Image

from services.common.errors import Kind, ServiceError
from services.common.load import Load
from services.common.request_context import priority_of
from services.vision.classifier import Classification
from services.vision.decoding import SizeLimits
from services.vision.detector import Detection
from services.vision.face_detector import Face
from services.vision.instruments import Instruments
from services.vision.meter import Meter
from services.vision.pipeline import Pipeline
from services.vision.pool import PixelPool
from services.vision.servicer import VisionServicer
from services.vision.settings import VisionSettings
from services.vision.tasks import Mark, ServedModel
from services.vision.text_reader import TextLine
from tests.unit.vision.pictures import encoded, oriented, png_header, scene

BOX = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
CORNERS = np.array([(0, 0), (1, 0), (1, 0.5), (0, 0.5)], np.float32)
LABELS = ("crane", "dog", "crane")
PNG, CUT = encoded(scene(40, 20)), encoded(scene(40, 20), "JPEG")[:-40]
FOUND = {
    "classify": Classification("dog", 0.5, 1),
    "detect": Detection("dog", 0.5, 1, BOX),
    "read_text": TextLine("hello", 0.5, CORNERS),
    "detect_faces": Face(0.5, BOX, np.tile(BOX[:2], (5, 1))),
}


class FakeTask:
    def __init__(self, task, model_id):
        self.model = ServedModel(model_id, task, LABELS, (model_id,), "MIT", "cpu-fp32")
        self.asked, self.fault = [], None

    def scale(self, width, height):
        return 1.0

    def memory(self, width, height):
        return 1

    def cost(self, width, height):
        return 10.0

    def prepare(self, pixels):
        return pixels.shape

    async def find(self, prepared, options, turn):
        self.asked.append((prepared, options, turn))
        if self.fault:
            raise self.fault
        return [FOUND[self.model.task]]

    def marks(self, found):
        return [Mark("dog", 1)]


class FakeAdmission:
    def __init__(self):
        self.admitted, self.left = [], 0

    @asynccontextmanager
    async def admit_call(self, cost, context):
        self.admitted.append(cost)
        try:
            yield
        finally:
            self.left += 1


class FakeContext:
    def __init__(self, priority="0"):
        self.priority = priority

    def time_remaining(self):
        return None

    def invocation_metadata(self):
        return (("x-flotilla-priority", self.priority),)


class Service(VisionServicer):
    def __init__(self, telemetry, **settings):
        ids = {"c": "classify", "d": "detect", "t": "read_text", "f": "detect_faces"}
        self.fakes = {model_id: FakeTask(task, model_id) for model_id, task in ids.items()}
        self.admission, self.load = FakeAdmission(), Load(2)
        meter = Meter(self.load)
        limits = SizeLimits(1_000_000, 1_000_000, 20_000)
        pipeline = Pipeline(PixelPool(2, 1000, meter), meter, Instruments(telemetry), limits, 0.001)
        super().__init__(self.fakes, pipeline, self.admission, VisionSettings(**settings))

    async def stream(self, **request):
        return [m async for m in self.InferStream(pb.InferStreamRequest(**request), FakeContext())]


@pytest.fixture
def service(telemetry):
    return Service(telemetry)


def images(*files):
    return [pb.Image(data=file) for file in files]


ONE = images(PNG)
METHODS = {
    "Classify": pb.ClassifyRequest,
    "Detect": pb.DetectRequest,
    "ReadText": pb.ReadTextRequest,
    "DetectFaces": pb.DetectFacesRequest,
}
NAN = float("nan")
BAD = {
    "no pictures": ("Classify", {}, "images"),
    "too many pictures": ("Classify", {"images": ONE * 1000}, "images"),
    "65 pictures": ("ReadText", {"images": ONE * 65}, "images"),
    "empty picture": ("Detect", {"images": images(PNG, b"")}, "images[1].data"),
    "no picture": ("Detect", {"images": images(b"<svg/>")}, "images[0].data"),
    "bomb": ("ReadText", {"images": images(PNG, png_header(50_000, 50_000))}, "images[1].data"),
    "NaN threshold": ("Classify", {"images": ONE, "threshold": NAN}, "threshold"),
    "negative threshold": ("Detect", {"images": ONE, "threshold": -0.1}, "threshold"),
    "large threshold": ("ReadText", {"images": ONE, "threshold": 1.1}, "threshold"),
    "infinite threshold": ("DetectFaces", {"images": ONE, "threshold": float("inf")}, "threshold"),
    "NaN iou_threshold": ("Detect", {"images": ONE, "iou_threshold": NAN}, "iou_threshold"),
    "large iou_threshold": ("Detect", {"images": ONE, "iou_threshold": 2}, "iou_threshold"),
    "top_k 0": ("Classify", {"images": ONE, "top_k": 0}, "top_k"),
    "top_k 100,000": ("Detect", {"images": ONE, "top_k": 100_000}, "top_k"),
    "top_k 1001": ("DetectFaces", {"images": ONE, "top_k": 1001}, "top_k"),
    "unknown label": ("Classify", {"images": ONE, "labels": ["dog", "unicorn"]}, "labels[1]"),
    "model of another task": ("Classify", {"images": ONE, "model": "d"}, "model"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_refusal_names_its_field_before_admission(service, case):
    method, fields, field = BAD[case]
    with pytest.raises(ServiceError) as caught:
        await getattr(service, method)(METHODS[method](**fields), FakeContext())
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, field)
    assert caught.value.message.startswith(field)
    assert not service.admission.admitted


async def test_too_many_pictures_says_how_many(service):
    with pytest.raises(ServiceError, match="images has 1000 items; it takes 1 to 64"):
        await service.Classify(pb.ClassifyRequest(images=ONE * 1000), FakeContext())


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_model_is_not_found(service, method):
    with pytest.raises(ServiceError, match="models for") as caught:
        await getattr(service, method)(METHODS[method](images=ONE, model="x"), FakeContext())
    assert (caught.value.kind, caught.value.field, caught.value.code) == (Kind.NOT_FOUND, "model", "model_not_found")


async def test_several_models_need_a_name(service):
    service._calls._tasks["c2"] = FakeTask("classify", "c2")
    with pytest.raises(ServiceError, match="c, c2"):
        await service.Classify(pb.ClassifyRequest(images=ONE), FakeContext())
    assert (await service.Classify(pb.ClassifyRequest(images=ONE, model="c"), FakeContext())).model == "c"


async def test_results_are_in_order_with_sizes_and_usage(service):
    files = [encoded(scene(10 + number, 20)) for number in range(20)] + [oriented(scene(40, 20), 6)]
    response = await service.Classify(pb.ClassifyRequest(images=images(*files)), FakeContext())
    assert [result.image.index for result in response.results] == list(range(21))
    assert [(result.image.width, result.image.height) for result in response.results][-2:] == [(29, 20), (40, 20)]
    usage = response.usage
    pixels = sum(range(10, 30)) * 20 + 800
    assert (usage.images, usage.pixels, usage.bytes) == (21, pixels, sum(map(len, files)))
    assert service.admission.admitted == [pytest.approx(21 * 10 + pixels * 0.001)]
    assert service.load.capacity > 0


async def test_every_task_answers(service):
    classes = (await service.Classify(pb.ClassifyRequest(images=ONE), FakeContext())).results[0].classifications
    assert [(c.label, c.score, c.class_index) for c in classes] == [("dog", 0.5, 1)]
    objects = (await service.Detect(pb.DetectRequest(images=ONE), FakeContext())).results[0].detections
    assert [(d.label, d.confidence, d.box.x_max) for d in objects] == [("dog", 0.5, pytest.approx(0.3))]
    lines = (await service.ReadText(pb.ReadTextRequest(images=ONE), FakeContext())).results[0].lines
    assert [(line.text, line.confidence, len(line.corners)) for line in lines] == [("hello", 0.5, 4)]
    faces = (await service.DetectFaces(pb.DetectFacesRequest(images=ONE), FakeContext())).results[0].faces
    assert [(face.confidence, len(face.landmarks)) for face in faces] == [(0.5, 5)]


@pytest.mark.parametrize(
    ("method", "model", "threshold", "top_k"),
    [("Classify", "c", 0.0, 5), ("Detect", "d", 0.3, 100), ("ReadText", "t", 0.5, 0), ("DetectFaces", "f", 0.5, 100)],
)
async def test_what_is_unset_has_the_documented_default(service, method, model, threshold, top_k):
    await getattr(service, method)(METHODS[method](images=ONE), FakeContext())
    ((_, options, _),) = service.fakes[model].asked
    assert (options.threshold, options.top_k, options.iou_threshold, options.labels) == (threshold, top_k, None, None)


async def test_parameters_reach_the_task(service):
    request = pb.DetectRequest(images=ONE, threshold=0, iou_threshold=1, top_k=1000, labels=["crane"])
    await service.Detect(request, FakeContext(priority="7"))
    ((_, options, turn),) = service.fakes["d"].asked
    assert (options.threshold, options.iou_threshold, options.top_k) == (0, 1, 1000)
    assert options.labels == {0, 2}, "a label that the list has twice"
    assert turn.priority == 7 == priority_of(FakeContext(priority="7"))


async def test_a_broken_picture_fails_a_unary_call(service):
    with pytest.raises(ServiceError) as caught:
        await service.Classify(pb.ClassifyRequest(images=images(PNG, CUT)), FakeContext())
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, "images[1].data")
    assert service.admission.left == 1


async def test_annotation_is_a_jpeg_of_the_picture(service):
    (result,) = (await service.Detect(pb.DetectRequest(images=ONE, annotate=True), FakeContext())).results
    with Image.open(io.BytesIO(result.image.annotated)) as image:
        assert (image.format, image.size) == ("JPEG", (40, 20))


async def test_a_stream_answers_each_picture_and_ends_with_usage(service):
    request = pb.DetectFacesRequest(images=images(PNG, b"", CUT, b"<svg/>", PNG))
    *answers, last = await service.stream(detect_faces=request)
    errors = {m.error.index: (m.error.reason, m.error.message) for m in answers if m.WhichOneof("result") == "error"}
    assert sorted(errors) == [1, 2, 3]
    assert errors[1] == ("INVALID_ARGUMENT", "images[1].data is empty")
    results = [m.detect_faces.image.index for m in answers if m.WhichOneof("result") == "detect_faces"]
    assert sorted(results) == [0, 4]
    assert (last.usage.images, last.usage.pixels, last.usage.bytes) == (2, 1600, 2 * len(PNG))
    assert {m.model for m in [*answers, last]} == {"f"}


async def test_a_stream_takes_more_pictures(service):
    assert len(await service.stream(classify=pb.ClassifyRequest(images=ONE * 100))) == 101
    with pytest.raises(ServiceError, match="1 to 4096"):
        await service.stream(classify=pb.ClassifyRequest(images=ONE * 4097))


async def test_a_stream_needs_a_request(service):
    with pytest.raises(ServiceError) as caught:
        await service.stream()
    assert caught.value.field == "request"


async def test_a_fault_of_the_engine_ends_a_stream(service):
    service.fakes["c"].fault = ServiceError(Kind.UNAVAILABLE, "away")
    with pytest.raises(ServiceError, match="away"):
        await service.stream(classify=pb.ClassifyRequest(images=ONE * 3))
    assert service.admission.left == 1


async def test_models_are_listed(service):
    response = await service.ListModels(pb.ListModelsRequest(), FakeContext())
    assert [(m.id, m.task) for m in response.models] == [
        ("c", pb.TASK_CLASSIFY),
        ("d", pb.TASK_DETECT),
        ("t", pb.TASK_READ_TEXT),
        ("f", pb.TASK_DETECT_FACES),
    ]
    assert (tuple(response.models[0].labels), response.models[0].license) == (LABELS, "MIT")
