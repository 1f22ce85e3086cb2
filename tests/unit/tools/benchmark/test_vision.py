"""The vision benchmark's requests, rows and goals."""

import io
import math

import pytest
from PIL import Image

from tools.benchmark.generator import Job, Measurement
from tools.benchmark.images import SIZES, in_json, mixed_posts, multipart, page_files, photograph_files
from tools.benchmark.in_process import classifier_inputs, plain_inputs
from tools.benchmark.rounds import measure_all, with_clients
from tools.benchmark.vision import BASE64, IN_PROCESS, MULTIPART, PAGES, PLAIN, RAPIDOCR, Result


@pytest.fixture(scope="module")
def files():
    return photograph_files()


@pytest.fixture
def rates(monkeypatch):
    """Measurements of one second with so many answers, by target, a round each."""

    def answers(numbers: dict[str, list[int]]) -> None:
        left = {target: iter(rounds) for target, rounds in numbers.items()}

        async def measure(job: Job) -> Measurement:
            return Measurement(latencies=[0.1] * next(left[job.target]), seconds=1.0)

        monkeypatch.setattr("tools.benchmark.rounds.measure", measure)

    return answers


async def measured(targets, base, clients=32):
    jobs = {target: Job("http", target, [], 1, 1) for target in targets}
    return await measure_all(with_clients(jobs, clients, 1), base, 3, lambda _: None)


async def test_a_ratio_is_the_median_over_the_rounds(rates):
    rates({IN_PROCESS: [100, 50, 200], MULTIPART: [90, 40, 100], BASE64: [0, 0, 0]})
    process, form, text = await measured([IN_PROCESS, MULTIPART, BASE64], IN_PROCESS)
    assert (process.ratio, form.ratio, text.ratio) == (1.0, 0.8, 0.0)
    assert (form.rate, form.clients, form.p50) == (90, 32, pytest.approx(100))
    assert math.isnan(text.p99)


async def test_goals_are_those_that_the_run_can_tell(rates):
    stack = {MULTIPART: [90] * 6, BASE64: [70] * 6, PAGES: [3] * 3}
    rates({PLAIN: [50] * 6, IN_PROCESS: [100] * 6, RAPIDOCR: [2] * 3, **stack})
    photographs = [PLAIN, IN_PROCESS, MULTIPART, BASE64]
    few, many = [await measured(photographs, PLAIN, clients) for clients in (8, 32)]
    assert Result(few).goals == []
    pages = await measured([RAPIDOCR, PAGES], RAPIDOCR)
    goals = Result(few + many, pages).goals
    assert [(goal.name, goal.wanted, goal.reached) for goal in goals] == [
        (f"{MULTIPART}, of {PLAIN}", 0.8, 1.8),
        (f"{BASE64}, of {PLAIN}", 0.8, 1.4),
        (f"{MULTIPART}, of {IN_PROCESS}", 0.8, 0.9),
        (f"{BASE64}, of {IN_PROCESS}", 0.8, 0.7),
        (PAGES, 1.2, 1.5),
    ]


def test_photographs_have_every_size_and_pages_differ(files):
    assert [Image.open(io.BytesIO(file)).size for file in files[: len(SIZES)]] == list(SIZES)
    first, second = page_files(2)
    assert first != second


def test_requests_carry_the_file(files):
    assert b"\r\n\r\nabc\r\n--" in multipart("/v1/classify", b"abc").body
    assert b"base64,YWJj" in in_json("/v1/classify", b"abc").body
    posts = mixed_posts(files)
    assert {post.path for post in posts} == {"/v1/classify", "/v1/detect", "/v1/faces", "/v1/ocr"}
    assert {post.status for post in posts} == {200, 400}


@pytest.mark.parametrize("preparation", [classifier_inputs, plain_inputs])
def test_the_input_in_process_is_what_the_graph_takes(files, preparation):
    (pixels,) = preparation(224)(files[5]).values()
    assert (pixels.shape, pixels.dtype) == ((1, 224, 224, 3), "uint8")
