"""The metrics of the services on the gateway's page."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from prometheus_client.parser import text_string_to_metric_families

from services.common.ports import free_ports
from services.common.server import HttpListener
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running

TEXT = '# TYPE nv_gpu_utilization gauge\nnv_gpu_utilization{model="m"} 7\n'


@asynccontextmanager
async def page(answer: Callable[[], Awaitable[str]]) -> AsyncIterator[str]:
    """Serve Prometheus text as a service does; gives host:port."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def metrics(_: object) -> PlainTextResponse:
        return PlainTextResponse(await answer())

    listener = HttpListener(Starlette(routes=[Route("/metrics", metrics)]), "127.0.0.1", 0, lifespan="off")
    await listener.start()
    try:
        yield f"127.0.0.1:{listener.port}"
    finally:
        await listener.stop(0)


async def read(gateway: Gateway, path: str = "/metrics") -> dict[tuple[str, str], float]:
    """The samples that have a service and an instance."""
    text = (await gateway.http.get(path)).text
    return {
        (sample.name, sample.labels["service"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "instance" in sample.labels
    }


async def test_services_are_read_and_those_that_do_not_answer_show() -> None:
    async def at_once() -> str:
        return TEXT

    late = asyncio.Event()

    async def never() -> str:
        await late.wait()
        return TEXT

    (closed,) = free_ports(1)
    async with FakeEmbedding().running() as fake, page(at_once) as good, page(never) as slow:
        addresses = f"embedding={good},vision={slow},llm=127.0.0.1:{closed}"
        async with running(
            fake.address,
            vision_addresses="127.0.0.1:1",
            llm_addresses="127.0.0.1:1",
            metrics_addresses=addresses,
            scrape_timeout_seconds=0.5,
        ) as gateway:
            for path in ("/metrics", "/v1/metrics"):
                assert await read(gateway, path) == {
                    ("flotilla_gateway_scrape_up", "embedding"): 1,
                    ("flotilla_gateway_scrape_up", "vision"): 0,
                    ("flotilla_gateway_scrape_up", "llm"): 0,
                    ("nv_gpu_utilization", "embedding"): 7,
                }
        late.set()


async def test_those_who_ask_at_the_same_time_share_one_reading() -> None:
    asked = 0

    async def count() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.2)
        return TEXT

    async with (
        FakeEmbedding().running() as fake,
        page(count) as place,
        running(fake.address, metrics_addresses=f"embedding={place}") as gateway,
    ):
        pages = await asyncio.gather(*(read(gateway) for _ in range(8)))
    assert all(found == pages[0] for found in pages)
    assert asked < 4
