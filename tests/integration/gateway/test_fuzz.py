"""Forms, bodies and heads at random: never a fault, nothing left behind, and the next request works."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest
from flotilla.llm.v1 import llm_pb2 as pb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.audio_forms import TRANSCRIPTIONS
from tests.integration.gateway.chat_bodies import USER, chat, choices
from tests.integration.gateway.fake_asr import FakeAsr
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.fake_llm import MODEL, STOP, USAGE, FakeLlm
from tests.integration.gateway.fake_vision import FakeVision
from tests.integration.gateway.fuzz import (
    FORM_NOISE,
    FORM_TYPES,
    JSON_NOISE,
    Fuzzed,
    fuzzed,
    good_form,
    good_json,
    send,
)
from tests.integration.gateway.gateway import Gateway, running
from tests.waiting import until

MB = 2**20
PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8
FORMS = {
    "/v1/classify": good_form(PICTURE, top_k="3", threshold="0.5", labels="cat,dog"),
    "/v1/ocr": good_form(PICTURE, annotate="true"),
    TRANSCRIPTIONS: good_form(
        b"RIFF" + PICTURE, response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    ),
    "/v1/audio/translations": good_form(PICTURE, response_format="verbose_json"),
}
BODIES = {
    "/v1/chat/completions": good_json(model=MODEL, messages=[USER, USER], stream=True, max_tokens=5, stop=["a"]),
    "/v1/completions": good_json(model=MODEL, prompt=["hi", "there"], stream=True, echo=False, seed=1),
    "/v1/responses": good_json(model=MODEL, input=[{"role": "user", "content": "hi"}], stream=True),
}
JSON_TYPES = [b"application/json", b"application/json; charset=utf-16", b"application/x+json", b"text/plain", b""]


class Whole:
    """A gateway before every service, and the services."""

    def __init__(self, gateway: Gateway, asr: FakeAsr, llm: FakeLlm) -> None:
        self.gateway, self.asr, self.llm = gateway, asr, llm

    def held(self) -> tuple[int, int]:
        """Tasks and open files of this process, which is the gateway's too."""
        return len(asyncio.all_tasks()), psutil.Process().num_fds()

    async def idle(self) -> None:
        """Wait until no service works for anyone."""
        await until(lambda: self.asr.running_calls == self.llm.running_calls == 0, "the services to be idle")

    async def holds_no_more_than(self, before: tuple[int, int]) -> None:
        """Wait until what was opened since is closed."""
        tasks, files = before

        def is_closed() -> bool:
            now = self.held()
            return now[0] <= tasks and now[1] <= files

        await until(is_closed, f"{self.held()} to be {before} again", limit=10)

    async def check(self, request: Fuzzed) -> int | None:
        """Send a request and hold its answer against what may come."""
        answer = await send(self.gateway.http_port, request)
        if answer.status is None:
            assert not request.is_whole, request
            return None
        assert answer.status < 500, (request, answer)
        if answer.status >= 400 and request.is_whole:
            assert json.loads(answer.body)["error"]
        return answer.status


@pytest.fixture
async def whole(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Whole]:
    async with AsyncExitStack() as stack:
        asr, llm, vision, embedding = FakeAsr(), FakeLlm(), FakeVision(), FakeEmbedding()
        for fake in (asr, llm, vision, embedding):
            await stack.enter_async_context(fake.running())
        started = running(
            embedding.address, asr_addresses=asr.address, llm_addresses=llm.address, vision_addresses=vision.address
        )
        yield Whole(await stack.enter_async_context(started), asr, llm)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def requests(seed: int, count: int) -> list[Fuzzed]:
    """The same requests for the same seed."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        goods, types, noise = chance.choice([(FORMS, FORM_TYPES, FORM_NOISE), (BODIES, JSON_TYPES, JSON_NOISE)])
        path = chance.choice(list(goods))
        made.append(fuzzed(chance, path, goods[path], types, noise))
    return made


async def test_nothing_breaks_and_nothing_is_left(whole: Whole) -> None:
    statuses: Counter[int | None] = Counter()

    async def batch(seed: int) -> None:
        made = requests(seed, 1000)
        for start in range(0, len(made), 10):
            statuses.update(await asyncio.gather(*map(whole.check, made[start : start + 10])))
        await whole.idle()

    await batch(1)  # what is made once and kept
    held = whole.held()
    memory = psutil.Process().memory_info().rss
    for seed in (2, 3):
        await batch(seed)
    await whole.holds_no_more_than(held)
    assert psutil.Process().memory_info().rss - memory < 32 * MB
    assert statuses[200] > 100
    assert statuses[400] > 100
    assert (await chat(whole.gateway)).status_code == 200
    for path, body in {**FORMS, **BODIES}.items():
        kind = FORM_TYPES[0] if path in FORMS else JSON_TYPES[0]
        assert (await send(whole.gateway.http_port, Fuzzed(path, kind, body))).status == 200, path


async def test_a_body_that_comes_byte_by_byte(whole: Whole) -> None:
    for path, body in {**FORMS, **BODIES}.items():
        kind = FORM_TYPES[0] if path in FORMS else JSON_TYPES[0]
        for in_chunks in (False, True):
            request = Fuzzed(path, kind, body, in_chunks=in_chunks, splits=list(range(1, 400)))
            assert await whole.check(request) == 200


async def test_whatever_the_model_says_comes_out_of_the_events_unchanged(whole: Whole) -> None:
    texts: list[list[str]] = []
    odd = st.sampled_from(
        ["\n\n", "\r", "data: ", "data: [DONE]\n\n", "event: error\n", "\u2028", "\x00", '"}]}', "é😀"]
    )

    @settings(max_examples=60, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.text(max_size=8) | odd, min_size=1, max_size=6))
    def collect(pieces: list[str]) -> None:
        texts.append(pieces)

    collect()
    for pieces in texts:
        said: list[Any] = [pb.ChatResponse(text=piece) for piece in pieces]
        whole.llm.says(*said, pb.ChatResponse(finish_reason=STOP), pb.ChatResponse(usage=USAGE))
        response = await chat(whole.gateway, stream=True)
        assert "".join(one["delta"].get("content") or "" for one in choices(response)) == "".join(pieces)


async def test_clients_that_leave_in_the_middle_of_a_stream(whole: Whole) -> None:
    chance = random.Random(5)

    async def leave() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", whole.gateway.http_port)
        writer.write(Fuzzed("/v1/chat/completions", JSON_TYPES[0], BODIES["/v1/chat/completions"]).wire)
        await reader.readexactly(chance.randint(1, 400))
        writer.transport.abort()

    whole.llm.says(pb.ChatResponse(text="Hello"), whole.llm.hang)
    await asyncio.gather(*(leave() for _ in range(10)))
    await whole.idle()
    held = whole.held()
    for _ in range(5):
        await asyncio.gather(*(leave() for _ in range(20)))
        await whole.idle()
    await whole.holds_no_more_than(held)
