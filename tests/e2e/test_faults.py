"""Faults over HTTP on the whole fleet: Triton killed under load, overload, bad input, and a stop that loses nothing.

The tests share one fleet with small limits, and the last one stops it.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import httpx
import psutil
import pytest

from tests.bad_calls import BAD_CALLS
from tests.bad_calls import assert_refused as assert_call_refused
from tests.bad_requests import BAD_BODIES, BAD_VALUES, JSON, assert_refused, connected, head, status_line
from tests.processes import alive, descendants, stubs_of, triton_of
from tests.waiting import until
from tools.fleet.logs import log_path
from tools.fleet.private import PrivateFleet, private_fleet
from tools.fleet.state import StateFile

MODEL, TRITON_MODEL = "all-minilm-l6-v2", "all_minilm_l6_v2"
CONCURRENCY, QUEUE = 4, 8
CLIENTS = CONCURRENCY + QUEUE  # what the service lets in
GOOD = {"model": MODEL, "input": "hello"}
BUSY = {"model": MODEL, "input": ["a few words that keep the engine busy " * 8] * 4}
LONG = "word " * 300

BAD = [
    *((json.dumps({**GOOD, **change}).encode(), status, param, "") for change, status, param in BAD_VALUES),
    *((raw, 400, param, words) for raw, param, words in BAD_BODIES),
    *(
        (json.dumps({**GOOD, **change}).encode(), 400, param, "")
        for change, param in (
            ({"dimensions": 100}, "dimensions"),
            ({"input": LONG}, "input[0]"),
            ({"input": ["a", LONG], "truncate": "NONE"}, "input[1]"),
            ({"input": [5, 30522]}, "input[0][1]"),
        )
    ),
]


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateFleet]:
    environment = {
        "FLOTILLA_EMBEDDING_ADMISSION_CONCURRENCY": str(CONCURRENCY),
        "FLOTILLA_EMBEDDING_ADMISSION_QUEUE": str(QUEUE),
        "FLOTILLA_GATEWAY_BODY_TIMEOUT_SECONDS": "1",
    }
    async with private_fleet(tmp_path_factory.mktemp("fleet"), environment) as running:
        yield running


@pytest.fixture
async def http(fleet: PrivateFleet) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=fleet.url, trust_env=False, timeout=60, limits=limits) as client:
        yield client


@pytest.fixture
async def channel(fleet: PrivateFleet) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{fleet.process('gateway').grpc_port}") as open_channel:
        yield open_channel


def service_pid(fleet: PrivateFleet) -> int:
    pid = fleet.process("embedding").pid
    assert pid is not None
    return pid


def metric(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def service_metric(fleet: PrivateFleet, http: httpx.AsyncClient, name: str) -> float:
    return metric((await http.get(f"http://127.0.0.1:{fleet.process('embedding').http_port}/metrics")).text, name)


async def assert_works(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/embeddings", json=GOOD)
    assert response.status_code == 200, response.text
    assert len(response.json()["data"][0]["embedding"]) == 384


class Clients:
    """Callers that go on until told to stop, waiting where they are told to; and one that looks at readiness."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.statuses: Counter[int] = Counter()
        self.refusals: list[httpx.Response] = []
        self.readiness: Counter[int] = Counter()
        self._http, self._stopped = http, asyncio.Event()
        self._tasks = [asyncio.ensure_future(self._call()) for _ in range(CLIENTS)]
        self._tasks.append(asyncio.ensure_future(self._look()))

    async def _call(self) -> None:
        while not self._stopped.is_set():
            response = await self._http.post("/v1/embeddings", json=BUSY)
            self.statuses[response.status_code] += 1
            if response.status_code != 200:
                self.refusals.append(response)
                await self._wait(int(response.headers["retry-after-ms"]) / 1000)

    async def _look(self) -> None:
        while not self._stopped.is_set():
            self.readiness[(await self._http.get("/v1/health/ready")).status_code] += 1
            await self._wait(0.05)

    async def _wait(self, seconds: float) -> None:
        await asyncio.wait({asyncio.ensure_future(self._stopped.wait())}, timeout=seconds)

    async def until_answered(self, times: int = 20) -> None:
        """Wait for so many more good answers."""
        wanted = self.statuses[200] + times
        await until(lambda: self.statuses[200] >= wanted, "answers")

    async def stop(self) -> None:
        self._stopped.set()
        await asyncio.gather(*self._tasks)


@pytest.mark.parametrize("what", ["tritonserver", "stub"])
async def test_a_killed_triton_is_503_for_a_while_and_nothing_else(fleet, http, what):
    async def model_is(status: int) -> bool:
        return (await http.get(f"/v2/models/{TRITON_MODEL}/ready")).status_code == status

    clients = Clients(http)
    await clients.until_answered()
    pid = service_pid(fleet)
    (triton_of(pid) if what == "tritonserver" else stubs_of(pid)[0]).kill()
    await until(lambda: model_is(503), "readiness of the model to drop")
    await until(lambda: model_is(200), "readiness of the model to return")
    await clients.until_answered()
    await clients.stop()
    assert set(clients.readiness) == {200}
    assert set(clients.statuses) == {200, 503}
    for refusal in clients.refusals:
        error = refusal.json()["error"]
        assert (error["type"], error["param"]) == ("service_unavailable_error", None)
        assert error["message"]
    await assert_works(http)


async def test_overload_is_429_with_a_time_to_come_back(fleet, http):
    await assert_works(http)
    processes = [psutil.Process(service_pid(fleet)), psutil.Process(fleet.process("gateway").pid)]
    before = [process.memory_info().rss for process in processes]
    responses = await asyncio.gather(*(http.post("/v1/embeddings", json=BUSY) for _ in range(1000)))
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= CLIENTS
    for response in responses:
        if response.status_code == 429:
            error = response.json()["error"]
            assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "queue_full", None)
            assert int(response.headers["retry-after"]) >= 1
            assert int(response.headers["retry-after-ms"]) >= 100
    grown = [process.memory_info().rss - was for process, was in zip(processes, before, strict=True)]
    assert max(grown) < 150 * 2**20, grown
    await assert_works(http)


@pytest.mark.parametrize(("body", "status", "param", "words"), BAD)
async def test_bad_input_is_refused_by_name_and_the_next_request_works(http, body, status, param, words):
    assert_refused(await http.post("/v1/embeddings", content=body, headers=JSON), status, param, words)
    await assert_works(http)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_100_mb_is_413(http, chunked):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    body = chunks() if chunked else b" " * 100_000_000
    assert_refused(await http.post("/v1/embeddings", content=body, headers=JSON), 413, None, "limit")
    await assert_works(http)


async def test_a_slow_body_is_408_and_a_half_closed_one_gets_nothing(fleet, http):
    port, body = fleet.process("gateway").http_port, json.dumps(GOOD).encode()
    async with connected(port) as (reader, writer):
        writer.write(head(len(body)) + body[:5])
        assert b" 408 " in await status_line(reader)
    async with connected(port) as (reader, writer):
        writer.write(head(len(body)) + body[:5])
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b""
    await assert_works(http)


@pytest.mark.parametrize("case", BAD_CALLS)
async def test_bad_calls_are_refused_by_name_over_grpc_too(http, channel, case):
    await assert_call_refused(channel, case)
    await assert_works(http)


async def test_the_stop_of_the_fleet_loses_no_accepted_request(fleet, http):
    processes = [psutil.Process(fleet.supervisor), *descendants(fleet.supervisor)]
    body = {"model": MODEL, "input": BUSY["input"] * 16}
    requests = [asyncio.ensure_future(http.post("/v1/embeddings", json=body)) for _ in range(CLIENTS)]

    async def accepted() -> bool:
        calls = ("flotilla_admission_running", "flotilla_admission_waiting")
        return sum([await service_metric(fleet, http, name) for name in calls]) == CLIENTS

    await until(accepted, "every request to be accepted")
    stopping = asyncio.ensure_future(fleet.stop())
    assert Counter([(await request).status_code for request in requests]) == {200: CLIENTS}
    await stopping
    with pytest.raises(httpx.ConnectError):
        await http.post("/v1/embeddings", json=GOOD)
    assert not alive(processes)
    for name in ("gateway", "embedding"):
        log = log_path(StateFile(fleet.state_dir).logs, name).read_text()
        assert "Traceback" not in log
        assert json.loads(log.splitlines()[-1])["message"] == "stopped"
