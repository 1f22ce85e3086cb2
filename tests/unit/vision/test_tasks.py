"""The tasks over batchers that answer from memory."""

from unittest.mock import AsyncMock

import numpy as np
import pytest
from PIL import Image

from services.vision.classifier import Classifier, central_square, softmax
from services.vision.detector import Detector, stretched
from services.vision.face_detector import FaceDetector, decode_grids, input_size
from services.vision.tasks import Options, ServedModel
from services.vision.text_lines import page_of
from services.vision.text_reader import TextReader
from services.vision.turnstile import Turn
from tests.unit.vision.pictures import ASTRONAUT

TURN = Turn(3, 0.0)


class FakeBatcher:
    def __init__(self, *results):
        self.results, self.submitted = list(results), []

    async def submit(self, items, lengths, priority):
        self.submitted.append((items, lengths, priority))
        return self.results[: len(items)]


class FakeReading:
    """Answers each call with the next results."""

    def __init__(self, *results):
        self.submit = AsyncMock(side_effect=results)


def served(task, *labels):
    return ServedModel("m", task, labels, ("m",), "MIT", "cpu-fp32")


def original_preprocessing(pixels):
    """Resize the short side to 256 by bicubic, crop the centre of 224, as torchvision does."""
    image = Image.fromarray(pixels)
    width, height = image.size
    scaled = (256, 256 * height // width) if width < height else (256 * width // height, 256)
    image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (round((side - 224) / 2) for side in scaled)
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


@pytest.mark.parametrize("size", [(512, 512), (300, 451), (1024, 700), (224, 224), (100, 60), (257, 999)])
def test_the_square_is_that_of_the_original(size):
    pixels = np.asarray(Image.fromarray(ASTRONAUT).resize(size))
    apart = np.abs(central_square(pixels, 224).astype(int) - original_preprocessing(pixels))
    assert apart.max() <= 4
    assert apart.mean() < 0.3


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_every_task_prepares_odd_sizes(size):
    pixels = np.zeros((*size, 3), np.uint8)
    assert central_square(pixels, 224).shape == (224, 224, 3)
    assert stretched(pixels, 300).shape == (300, 300, 3)
    faces = FaceDetector(served("detect_faces"), 1280, FakeBatcher(), 0.0).prepare(pixels)
    assert max(faces.shape) <= 1280
    assert faces.shape[0] % 32 == faces.shape[1] % 32 == 0


def test_probabilities_add_up_to_one():
    assert softmax(np.array([1000, 1000, -1000], np.float32)).tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (Options(0.0, 3), ["c", "a", "b"]),
        (Options(0.0, 1), ["c"]),
        (Options(0.3, 3), ["c", "a"]),
        (Options(0.0, 3, labels=frozenset({1})), ["b"]),
        (Options(0.9, 3), []),
    ],
)
async def test_classes_are_the_best_that_are_asked_for(options, labels):
    batcher = FakeBatcher(np.log(np.array([0.35, 0.2, 0.45], np.float32)))
    classifier = Classifier(served("classify", "a", "b", "c"), 2, batcher, 0.5)
    found = await classifier.find(np.zeros((2, 2, 3), np.uint8), options, TURN)
    assert [one.label for one in found] == labels
    assert batcher.submitted[0][1:] == ([4], 3)
    assert classifier.cost(100, 100) == 2.0
    assert [mark.text for mark in classifier.marks(found)] == [f"{one.label} {one.score:.2f}" for one in found[:1]]


BOXES = np.array([(0.1, 0.2, 0.5, 0.6), (0.1, 0.2, 0.5, 0.61), (-0.1, 0.5, 1.2, 1.0)], np.float32)


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (Options(0.3, 100), ["cat", "dog"]),
        (Options(0.3, 100, iou_threshold=1.0), ["cat", "cat", "dog"]),
        (Options(0.3, 1), ["cat"]),
        (Options(0.75, 100), ["cat"]),
        (Options(0.0, 100, labels=frozenset({1})), ["dog"]),
    ],
)
async def test_objects_are_those_asked_for(options, labels):
    scores, classes = np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1], np.int32)
    detector = Detector(served("detect", "cat", "dog"), 2, 0.6, FakeBatcher((BOXES, scores, classes)), 0.0)
    found = await detector.find(np.zeros((2, 2, 3), np.uint8), options, TURN)
    assert [one.label for one in found] == labels


async def test_boxes_are_x_first_and_inside():
    scores, classes = np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1], np.int32)
    detector = Detector(served("detect", "cat", "dog"), 2, 0.6, FakeBatcher((BOXES, scores, classes)), 0.0)
    cat, dog = await detector.find(np.zeros((2, 2, 3), np.uint8), Options(0.3, 100), TURN)
    assert cat.box == pytest.approx([0.2, 0.1, 0.6, 0.5])
    assert dog.box == pytest.approx([0.5, 0.0, 1.0, 1.0])


def test_far_larger_pictures_are_averaged_first():
    noise = np.random.default_rng(0).integers(0, 255, (1800, 2400, 3), dtype=np.uint8)
    assert stretched(noise, 300).std() < noise.std() / 2


def grids(height=8, width=16):
    return [np.zeros(shape, np.float32) for shape in ((height, width), (2, height, width), (2, height, width))] + [
        np.zeros((10, height, width), np.float32)
    ]


def test_a_face_is_decoded_from_its_cell():
    heatmap, scale, offset, landmarks = grids()
    heatmap[3, 5] = 0.8
    scale[:, 3, 5] = np.log((4, 3))  # height 16, width 12 pixels
    offset[:, 3, 5] = (0.25, -0.5)  # y, x
    landmarks[:, 3, 5] = [0.25, 0.5] * 5  # y, x
    boxes, scores, points = decode_grids(heatmap, scale, offset, landmarks, 0.5)
    centre_x, centre_y = (5 + 0.5 - 0.5) * 4, (3 + 0.5 + 0.25) * 4
    assert boxes.tolist() == [[centre_x - 6, centre_y - 8, centre_x + 6, centre_y + 8]]
    assert scores.tolist() == pytest.approx([0.8])
    assert points.shape == (1, 5, 2)
    assert points[0, 0].tolist() == [centre_x - 6 + 6, centre_y - 8 + 4]


async def test_faces_are_mapped_to_the_picture():
    maps = grids()
    maps[0][3, 5] = maps[0][3, 6] = 0.8
    maps[1][:, 3, 5:7] = np.log(4)
    faces = FaceDetector(served("detect_faces"), 1280, FakeBatcher(tuple(maps)), 0.0)
    (face,) = await faces.find(np.zeros((32, 64, 3), np.uint8), Options(0.5, 10), TURN)
    assert face.box == pytest.approx([14 / 64, 6 / 32, 30 / 64, 22 / 32])
    assert face.landmarks.shape == (5, 2)
    assert not await faces.find(np.zeros((32, 64, 3), np.uint8), Options(0.9, 10), TURN)


@pytest.mark.parametrize(
    ("size", "taken"),
    [((512, 512), (512, 512)), ((100, 33), (128, 64)), ((2560, 1280), (1280, 640)), ((1, 10_000), (32, 1280))],
)
def test_sizes_for_faces(size, taken):
    assert input_size(*size, 1280) == taken


class Inline:
    async def run(self, work, turn):
        return work()


async def test_lines_are_found_turned_and_read():
    pixels = np.full((640, 320, 3), 255, np.uint8)
    page = page_of(pixels)
    text_map = np.zeros(page.finding.shape[:2], np.float32)
    rows, columns = text_map.shape
    for top in (0.1, 0.3, 0.5, 0.7):
        text_map[int(rows * top) : int(rows * (top + 0.05)), columns // 4 : columns // 2] = 0.9
    only_a_space, unsure = ([3], [0.9]), ([2], [0.4])
    rows_of_steps = [([1, 0, 2], [0.9, 1, 0.9]), ([1], [0.9]), only_a_space, unsure]
    steps = [(np.array(row, np.int32), np.array(sure, np.float32)) for row, sure in rows_of_steps]
    parts = FakeBatcher(text_map), FakeBatcher(0.1, 0.95, 0.1, 0.1), FakeReading(steps, steps[3:])
    reader = TextReader(served("read_text"), ["", "a", "b", " "], *parts, Inline(), 1e-6)
    first, second = await reader.find(page, Options(0.5), TURN)
    assert (first.text, first.score) == ("ab", pytest.approx(0.9))
    assert second.text == "a"
    assert first.corners[0] == pytest.approx((0.25, 0.1), abs=0.1)
    assert first.corners[2] == pytest.approx((0.5, 0.15), abs=0.1)
    assert second.corners[2] == pytest.approx((0.25, 0.3), abs=0.1), "upside down: reading begins at the far end"
    assert [mark.text for mark in reader.marks([first])] == [""]
    assert reader.cost(320, 640) == pytest.approx(page.finding.size / 3 * 2e-6)


@pytest.mark.parametrize(("again", "text", "corner"), [(("b", 0.95), "b", 0.5), (("b", 0.3), "a", 0.25)])
async def test_a_doubtful_line_is_read_the_other_way_round_too(again, text, corner):
    page = page_of(np.full((640, 320, 3), 255, np.uint8))
    text_map = np.zeros(page.finding.shape[:2], np.float32)
    rows, columns = text_map.shape
    text_map[int(rows * 0.1) : int(rows * 0.15), columns // 4 : columns // 2] = 0.9
    alphabet = ["", "a", "b"]
    readings = [
        [(np.array([alphabet.index(letter)], np.int32), np.array([sure], np.float32))]
        for letter, sure in (("a", 0.6), again)
    ]
    reading = FakeBatcher()
    reading.submit = AsyncMock(side_effect=readings)
    reader = TextReader(served("read_text"), alphabet, FakeBatcher(text_map), FakeBatcher(0.1), reading, Inline(), 1e-6)
    (line,) = await reader.find(page, Options(0.5), TURN)
    assert line.text == text
    assert line.corners[0, 0] == pytest.approx(corner, abs=0.1)


async def test_a_page_without_text():
    page = page_of(np.zeros((64, 64, 3), np.uint8))
    empty = FakeBatcher(np.zeros(page.finding.shape[:2], np.float32)), FakeBatcher(), FakeBatcher()
    reader = TextReader(served("read_text"), ["", "a"], *empty, Inline(), 0.0)
    assert await reader.find(page, Options(0.5), TURN) == []
