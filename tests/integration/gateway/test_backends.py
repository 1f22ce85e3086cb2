"""Several addresses of a service: balance, retry, loss, return."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from services.common.errors import Kind, ServiceError
from services.gateway import backends
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.fake_llm import FakeLlm
from tests.integration.gateway.gateway import Gateway, running, with_two_replicas

NOT_STARTED = ServiceError(Kind.NOT_STARTED, "this replica is shutting down; the call was not started")


async def test_calls_go_where_the_fewest_are_in_flight() -> None:
    async with with_two_replicas() as (gateway, one, two):
        one.behave = two.behave = one.hang
        calls = [asyncio.create_task(gateway.embed()) for _ in range(8)]
        while len(one.requests) + len(two.requests) < 8:
            await asyncio.wait_for(one.entered.wait(), 10)
            await asyncio.sleep(0)
        assert (len(one.requests), len(two.requests)) == (4, 4)
        one.release.set()
        assert Counter(response.status_code for response in await asyncio.gather(*calls)) == {200: 8}


async def test_a_call_that_was_not_started_is_made_again_elsewhere() -> None:
    async with with_two_replicas() as (gateway, one, _two):
        one.fail(NOT_STARTED)
        statuses = [(await gateway.embed()).status_code for _ in range(6)]
        assert statuses == [200] * 6
        assert len(one.requests) == 1  # no more calls until its health stream says that it serves
        assert 'flotilla_gateway_retries_total{service="embedding"} 1.0' in gateway.telemetry.prometheus_text()


async def test_without_another_address_a_call_that_was_not_started_is_503() -> None:
    async with FakeEmbedding().running() as one, running(one.address) as gateway:
        one.fail(NOT_STARTED)
        response = await gateway.embed()
        assert response.status_code == 503
        assert "not started" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", [Kind.UNAVAILABLE, Kind.OVERLOADED, Kind.INTERNAL, Kind.DEADLINE_EXCEEDED])
async def test_a_call_that_may_have_run_is_never_made_again(kind: Kind) -> None:
    async with with_two_replicas() as (gateway, one, two):
        one.fail(ServiceError(kind, "no"))
        two.fail(ServiceError(kind, "no"))
        await gateway.embed()
        assert len(one.requests) + len(two.requests) == 1


async def test_without_a_budget_nothing_is_made_again() -> None:
    async with with_two_replicas(retry_budget=0) as (gateway, one, two):
        one.fail(NOT_STARTED, times=1)
        two.fail(NOT_STARTED, times=1)
        assert (await gateway.embed()).status_code == 503


async def test_a_service_that_breaks_off_is_503_at_once_and_back_when_it_is_back() -> None:
    async with AsyncExitStack() as life_of_first:
        first = await life_of_first.enter_async_context(FakeEmbedding().running())
        async with running(first.address) as gateway:
            first.behave = first.hang
            call = asyncio.create_task(gateway.embed())
            await first.entered.wait()
            await life_of_first.aclose()
            assert (await call).status_code in (499, 503)
            began = time.monotonic()
            response = await gateway.embed()
            assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")
            assert response.headers["retry-after"] == "1"
            assert "service 'embedding' is not available" in response.json()["error"]["message"]
            assert time.monotonic() - began < backends.CONNECT_SECONDS + 1
            async with FakeEmbedding().running(int(first.address.rpartition(":")[2])):
                await asyncio.wait_for(gateway.until_serving(), 10)
                assert (await gateway.embed()).status_code == 200


async def test_one_dead_address_takes_no_calls() -> None:
    async with FakeEmbedding().running() as alive:
        async with FakeEmbedding().running() as dead:
            pass
        async with running(dead.address, alive.address) as gateway:
            assert [(await gateway.embed()).status_code for _ in range(5)] == [200] * 5


async def test_an_address_that_says_not_serving_gets_no_calls() -> None:
    async with with_two_replicas() as (gateway, one, two):
        await one.serve_nothing()
        await gateway.until_replicas(1)
        for _ in range(4):
            await gateway.embed()
        assert (len(one.requests), len(two.requests)) == (0, 4)


async def test_a_call_can_be_held_until_the_service_is_there() -> None:
    async with FakeEmbedding().running() as fake, running(fake.address, embedding_hold_seconds=30) as gateway:
        await fake.serve_nothing()
        await gateway.until_serving(False)
        call = asyncio.create_task(gateway.embed())
        while 'flotilla_gateway_held{service="embedding"} 1.0' not in gateway.telemetry.prometheus_text():
            await gateway.http.get("/v1/health/live")
        await fake.serve_again()
        assert (await call).status_code == 200


async def test_every_service_has_its_own_gauges(embedding: FakeEmbedding, llm: FakeLlm) -> None:
    async with running(embedding.address, llm_addresses=llm.address) as gateway:
        text = gateway.telemetry.prometheus_text()
    for service in ("embedding", "llm"):
        assert f'flotilla_gateway_serving{{service="{service}"}} 1.0' in text
    assert 'service="vision"' not in text  # which is not part of this fleet


async def test_a_call_whose_connection_is_closed_is_503(gateway: Gateway, embedding: FakeEmbedding) -> None:
    embedding.behave = embedding.hang
    call = asyncio.create_task(gateway.embed())
    await embedding.entered.wait()
    await gateway.fleet.embedding.backend.close()
    response = await call
    assert (response.status_code, response.json()["error"]["code"]) == (503, "connection_lost")


async def test_names_are_resolved_again_and_addresses_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.gateway.resolution import Endpoint, resolve

    async with FakeEmbedding().running() as one, FakeEmbedding().running() as two:
        known = {one.address}

        async def resolved(_: object) -> frozenset[Endpoint]:
            return await resolve(sorted(known))

        monkeypatch.setattr(backends, "resolve", resolved)
        async with running("name:1", resolve_seconds=0.01) as gateway:
            one.behave = one.hang
            call = asyncio.create_task(gateway.embed())
            await one.entered.wait()
            known.clear()
            known.add(two.address)
            target = f"ipv4:{two.address}"
            while [serving for serving, _ in gateway.fleet.embedding.backend.generation] != [target]:
                await gateway.fleet.changes.after(gateway.fleet.changes.version)
            assert (await gateway.embed()).status_code == 200
            assert len(two.requests) == 1
            one.release.set()  # the call on the address that is gone may finish
            assert (await call).status_code == 200


async def test_a_name_nobody_knows_shows_in_the_error() -> None:
    async with running("name.invalid:1") as gateway:
        response = await gateway.embed()
        assert response.status_code == 503
        assert "name.invalid" in response.json()["error"]["message"]
