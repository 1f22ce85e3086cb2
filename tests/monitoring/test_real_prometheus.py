"""A real Prometheus scrapes a running fleet: the autoscalers' queries, rules and dashboards, an alert in a fault."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest
import yaml

from tests.monitoring.prometheus import NAMESPACE, Prometheus, adapter_query, prometheus
from tests.waiting import until
from tools.fleet.private import PrivateFleet, private_fleet
from tools.monitoring.dashboards import dashboards, queries
from tools.monitoring.metrics import ROOT

SERVICES = ("gateway", "embedding")


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateFleet]:
    async with private_fleet(tmp_path_factory.mktemp("fleet"), services=["embedding"]) as running:
        yield running


@pytest.fixture(scope="module")
async def scraped(fleet: PrivateFleet, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    async with prometheus(fleet, tmp_path_factory.mktemp("prometheus"), holds="1s") as running:

        async def up() -> bool:
            return len(await running.query(f'up{{namespace="{NAMESPACE}"}} == 1')) == len(SERVICES)

        await until(up, "both targets")
        yield running


@pytest.fixture(scope="class")
async def load(fleet: PrivateFleet) -> AsyncIterator[None]:
    """Eight clients that embed texts all the time, without a failure."""
    over = asyncio.Event()

    async def client(http: httpx.AsyncClient) -> None:
        while not over.is_set():
            body = {"model": "all-minilm-l6-v2", "input": ["ships of the fleet " * 20] * 4}
            assert (await http.post("/v1/embeddings", json=body)).status_code == 200

    async with httpx.AsyncClient(base_url=fleet.url, trust_env=False, timeout=60) as http, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(client(http))
        yield
        over.set()


async def gauge(fleet: PrivateFleet, name: str) -> float:
    """The number as the embedding service says it itself."""
    url = f"http://127.0.0.1:{fleet.process('embedding').http_port}/metrics"
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(url)).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


class TestUnderLoad:
    async def test_the_autoscalers_get_the_numbers_of_the_service_under_load(self, fleet, scraped, load):
        text = (ROOT / "k8s/components/autoscaling-prometheus-adapter/adapter-rules.yml").read_text()
        rules = {rule["name"]["as"]: rule for rule in yaml.safe_load(text)["rules"]}
        keda = yaml.safe_load((ROOT / "k8s/components/autoscaling-keda/embedding.yaml").read_text())
        saturation, held = (trigger["metadata"]["query"] for trigger in keda["spec"]["triggers"])
        adapter = adapter_query(rules["flotilla_saturation"], "embedding-0")

        async def agree() -> bool:  # they were read at most a second ago, and the load is steady
            now = await gauge(fleet, "flotilla_saturation")
            asked = (await scraped.value(adapter), await scraped.value(saturation))
            return now > 0.3 and all(value is not None and abs(value - now) < 0.1 * now for value in asked)

        await until(agree, "the adapter's and KEDA's queries to return what the service says")
        in_flight = await scraped.value(adapter_query(rules["http_server_active_requests"], "gateway-0"))
        assert in_flight is not None and 1 <= in_flight <= 9
        assert await scraped.value(held) == 0

    async def test_latency_and_availability_are_recorded_and_good(self, scraped, load):
        async def recorded() -> bool:
            found = await scraped.query('flotilla:slo_errors:ratio_rate5m{modality="embedding"}')
            return {sample["metric"]["slo"] for sample in found} == {"availability", "latency"}

        await until(recorded, "the objectives of embeddings")
        assert await scraped.value('flotilla:slo_errors:ratio_rate5m{modality="embedding",slo="availability"}') == 0

    async def test_the_gateways_page_is_no_second_source(self, scraped, load):
        assert len(await scraped.query("flotilla_saturation")) == 1
        serving = await scraped.query('flotilla_gateway_serving{service="embedding"}')
        assert [sample["metric"]["job"] for sample in serving] == ["gateway"]

    async def test_every_panel_is_a_query_that_prometheus_understands_and_those_of_traffic_have_data(
        self, scraped, load
    ):
        empty = set()
        for name, dashboard in dashboards().items():
            for query in queries(dashboard):
                found = await scraped.query(query.replace("$namespace", ".*"))
                if not found and name in ("flotilla-embedding.json", "flotilla-gateway.json"):
                    empty.add(query.partition("flotilla_")[2].partition("{")[0] or query)
        rare = (
            "rejected",
            "retries",
            "keys",
            "unauthenticated",
            "limited",
            "used",
            "cancelled",
            "wasted",
            "rpc_server",
        )
        assert all(any(word in query for word in rare) for query in empty), empty


async def test_alerts_fire_when_a_service_is_killed_and_end_when_it_is_back(fleet, scraped):
    wanted = {("FlotillaServiceAway", "embedding"), ("FlotillaTargetDown", "embedding")}
    assert not wanted & await scraped.firing()
    fired = set()

    async def all_have_fired() -> bool:
        fired.update(wanted & await scraped.firing())
        return fired == wanted

    async def all_have_ended() -> bool:
        return not wanted & await scraped.firing()

    pid = fleet.process("embedding").pid
    assert pid
    os.kill(pid, signal.SIGKILL)  # the supervisor of the fleet starts it again, which takes longer than the alerts wait
    await until(all_have_fired, "the alerts", limit=120)
    await until(all_have_ended, "the end of the alerts", limit=120)
