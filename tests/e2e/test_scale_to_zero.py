"""Scale to zero with the real language model. A stand-in for the autoscaler reads the metric and starts the service."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.common.ports import free_ports
from tests.e2e.gateway_process import GatewayProcess
from tests.e2e.llm_requests import MODEL, chat
from tests.integration.service_process import ServiceProcess
from tests.waiting import until

HELD = 'flotilla_gateway_held{service="llm"} '
ROUTE = "/v1/chat/completions"


class Autoscaler:
    """Starts the service when calls are held for it, and stops it when told to."""

    def __init__(self, http: httpx.AsyncClient, port: int, state: Path) -> None:
        self._http, self._port, self._state = http, port, state
        self._service: ServiceProcess | None = None

    async def held(self) -> float:
        """The gateway's gauge, as Prometheus reads it."""
        return float((await self._http.get("/metrics")).text.partition(HELD)[2].partition("\n")[0])

    async def start_when_wanted(self) -> None:
        await until(self._wanted, "a call to be held")
        environment = {"FLOTILLA_LLM_GRPC_PORT": str(self._port)}
        self._service = ServiceProcess(self._state / "llm", environment, "llm")

    async def to_zero(self) -> None:
        if self._service is not None:
            self._service.terminate()
            assert await self._service.exit_code() == 0
            self._service = None

    async def _wanted(self) -> bool:
        return await self.held() > 0


@pytest.fixture
async def http(tmp_path: Path, port: int) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP API of a gateway whose language service is not there."""
    addresses = dict.fromkeys((f"FLOTILLA_GATEWAY_{name}_ADDRESSES" for name in ("EMBEDDING", "ASR", "VISION")), "")
    gateway = GatewayProcess(
        tmp_path / "gateway.log",
        FLOTILLA_GATEWAY_LLM_ADDRESSES=f"127.0.0.1:{port}",
        FLOTILLA_GATEWAY_LLM_HOLD_SECONDS="240",
        FLOTILLA_DRAIN_PROPAGATION_SECONDS="0",
        **addresses,
    )
    await gateway.start()
    url = f"http://127.0.0.1:{gateway.http_port}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=280) as client:
            yield client
        gateway.terminate()
        assert await gateway.ended() == 0
    finally:
        await gateway.kill()


@pytest.fixture
def port() -> int:
    """Where the language service will listen."""
    return free_ports(1)[0]


@pytest.fixture
async def autoscaler(http: httpx.AsyncClient, port: int, tmp_path: Path) -> AsyncIterator[Autoscaler]:
    scaler = Autoscaler(http, port, tmp_path)
    yield scaler
    await scaler.to_zero()


async def assert_refused_at_its_deadline(http: httpx.AsyncClient, autoscaler: Autoscaler) -> None:
    response = await http.post(ROUTE, json=chat(max_tokens=2), headers={"x-flotilla-timeout-ms": "1500"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert await autoscaler.held() == 0


async def test_a_request_waits_for_the_model_and_one_that_cannot_is_told_when_to_come_back(
    http: httpx.AsyncClient, autoscaler: Autoscaler
) -> None:
    assert await autoscaler.held() == 0
    await assert_refused_at_its_deadline(http, autoscaler)

    calls = [http.post(ROUTE, json=chat(max_tokens=2, stream=stream)) for stream in (False, True, True)]
    waiting = [asyncio.create_task(call) for call in calls]
    await autoscaler.start_when_wanted()
    whole, *streamed = await asyncio.gather(*waiting)
    assert whole.status_code == 200, whole.text
    assert whole.json()["choices"][0]["message"]["content"]
    for stream in streamed:
        assert stream.status_code == 200
        assert "error" not in stream.text
        assert stream.text.endswith("data: [DONE]\n\n")

    await autoscaler.to_zero()
    assert [row["id"] for row in (await http.get("/v1/models")).json()["data"]] == [MODEL]
    assert (await http.get("/v1/health/ready")).status_code == 200
    await assert_refused_at_its_deadline(http, autoscaler)
