"""Faults of the language model over HTTP: bad input, overload, clients that go, an engine that is killed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest

from tests.bad_requests import JSON, assert_refused
from tests.e2e.llm_requests import (
    BAD_BODIES,
    BAD_CHATS,
    BAD_COMPLETIONS,
    LONG_ANSWER,
    MODEL,
    chat,
    completion,
    events,
    streaming,
)
from tests.processes import stubs_of
from tests.waiting import until
from tools.fleet.private import PrivateFleet, private_fleet

CONCURRENCY, QUEUE = 16, 84
STREAMS, CLIENTS = CONCURRENCY, CONCURRENCY + QUEUE


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateFleet]:
    environment = {
        "FLOTILLA_LLM_ADMISSION_CONCURRENCY": str(CONCURRENCY),
        "FLOTILLA_LLM_ADMISSION_QUEUE": str(QUEUE),
    }
    async with private_fleet(tmp_path_factory.mktemp("fleet"), environment, services=["llm"]) as running:
        yield running


@pytest.fixture
async def http(fleet: PrivateFleet) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=fleet.url, trust_env=False, timeout=None, limits=limits) as client:
        yield client


def engine_of(fleet: PrivateFleet) -> psutil.Process:
    pid = fleet.process("llm").pid
    assert pid is not None
    return next(stub for stub in stubs_of(pid) if "smollm2_135m_instruct/" in " ".join(stub.cmdline()))


async def metrics(fleet: PrivateFleet, http: httpx.AsyncClient) -> dict[str, float]:
    """The counts of the service, labels added up."""
    text = (await http.get(f"http://127.0.0.1:{fleet.process('llm').http_port}/metrics")).text
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if not line.startswith("#"):
            found[line.split("{")[0].split()[0]] += float(line.split()[-1])
    return found


async def busy(fleet: PrivateFleet, http: httpx.AsyncClient) -> tuple[float, float, float]:
    """How many answers the service works on, how many wait, and how many the engine works on."""
    found = await metrics(fleet, http)
    return (
        found["flotilla_admission_running"],
        found["flotilla_admission_waiting"],
        found["flotilla_llm_running"] + found["flotilla_llm_waiting"],
    )


async def until_idle(fleet: PrivateFleet, http: httpx.AsyncClient) -> None:
    async def idle() -> bool:
        return await busy(fleet, http) == (0, 0, 0)

    await until(idle, "nothing to run or wait any more")


async def assert_works(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/chat/completions", json=chat(max_tokens=2))
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["completion_tokens"] in (1, 2)


@pytest.mark.parametrize(("change", "status", "param"), BAD_CHATS)
async def test_bad_chats_are_refused_by_name_and_the_next_works(http, change, status, param):
    response = await http.post("/v1/chat/completions", json=chat(**change))
    assert_refused(response, status, param, MODEL if status == 404 else "")
    await assert_works(http)


@pytest.mark.parametrize(("change", "status", "param"), BAD_COMPLETIONS)
async def test_bad_completions_are_refused_by_name_and_the_next_works(http, change, status, param):
    response = await http.post("/v1/completions", json=completion(**change))
    assert_refused(response, status, param, MODEL if status == 404 else "")
    await assert_works(http)


@pytest.mark.parametrize(("body", "param", "words"), BAD_BODIES)
async def test_broken_bodies_are_refused_and_the_next_works(http, body, param, words):
    assert_refused(await http.post("/v1/chat/completions", content=body, headers=JSON), 400, param, words)
    await assert_works(http)


async def test_a_full_queue_is_429_with_a_time_to_come_back(fleet, http):
    body = chat(max_tokens=4)
    responses = await asyncio.gather(*(http.post("/v1/chat/completions", json=body) for _ in range(3 * CLIENTS)))
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= CLIENTS
    for response in responses:
        if response.status_code == 429:
            error = response.json()["error"]
            assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "queue_full", None)
            assert int(response.headers["retry-after"]) >= 1
    await until_idle(fleet, http)
    await assert_works(http)


async def test_clients_that_go_in_mid_stream_leave_nothing_behind(fleet, http):
    begun = asyncio.Semaphore(0)

    async def client() -> None:
        async with streaming(http, **LONG_ANSWER) as response:
            await events(response, begun.release)

    async def all_there() -> bool:
        return (await busy(fleet, http))[:2] == (CONCURRENCY, QUEUE)

    before = await metrics(fleet, http)
    clients = [asyncio.ensure_future(client()) for _ in range(CLIENTS)]
    for _ in range(CONCURRENCY):
        await begun.acquire()
    await until(all_there, "every client to be let in")
    for task in clients:
        task.cancel()
    await asyncio.wait(clients)
    assert all(task.cancelled() for task in clients)
    await until_idle(fleet, http)
    after = await metrics(fleet, http)
    assert after["flotilla_llm_cancelled_total"] - before["flotilla_llm_cancelled_total"] >= CONCURRENCY
    await assert_works(http)


async def test_an_engine_killed_in_mid_stream_ends_every_stream_with_a_typed_error(fleet, http):
    begun: Counter[int] = Counter()

    async def stream(number: int) -> list[object]:
        async with streaming(http, **LONG_ANSWER) as response:
            return await events(response, lambda: begun.update([number]))

    async def ready() -> bool:
        return (await http.get("/v1/health/ready")).status_code == 200

    async def works() -> bool:
        return (await http.post("/v1/chat/completions", json=chat(max_tokens=2))).status_code == 200

    streams = [asyncio.ensure_future(stream(number)) for number in range(STREAMS)]
    await until(lambda: len(begun) == STREAMS, "every stream to begin")
    engine_of(fleet).kill()
    for found in await asyncio.gather(*streams):
        assert isinstance(found[-1], dict), found[-1]
        assert found[-1]["error"]["type"] == "service_unavailable_error"
        assert found[-1]["error"]["message"]
    await until(ready, "readiness to return")
    await until(works, "answers to return")
    await until_idle(fleet, http)
    await assert_works(http)
