import asyncio

import pytest
from grpc_health.v1 import health_pb2

from services.common.health import NOT_SERVING, SERVICE_UNKNOWN, SERVING, Health, HealthServicer
from tests.waiting import turns


@pytest.fixture
def health():
    return Health.of(("a.Service",), ("load", "warm"))


async def start(health):
    for name in health.phases:
        with health.phase(name):
            assert not health.ready
            assert health.message == f"{name} running"
    assert not health.ready  # the ports are closed
    await health.open()


def watch(health, name=""):
    """The statuses that a watcher has been sent."""
    sent = []

    async def run():
        async for response in HealthServicer(health).Watch(health_pb2.HealthCheckRequest(service=name), None):
            sent.append(response.status)

    return sent, asyncio.ensure_future(run())


async def test_ready_after_all_phases_and_with_open_ports(health):
    await start(health)
    assert (health.ready, health.message) == (True, "ready")


async def test_a_failed_phase_is_told(health):
    with pytest.raises(ZeroDivisionError), health.phase("load"):
        raise ZeroDivisionError
    assert health.message == "load failed"


async def test_a_dependency_takes_readiness_and_gives_it_back(health):
    await start(health)
    await health.down("triton", "died")
    assert (health.ready, health.message) == (False, "triton: died")
    await health.up("triton")
    assert health.ready


async def test_a_drain_is_for_good(health):
    await start(health)
    await health.drain()
    await health.up("triton")
    assert (health.ready, health.message) == (False, "draining")


async def test_watchers_hear_every_change_even_after_others_left(health):
    (first, leaving), (second, staying), (unknown, other) = watch(health), watch(health), watch(health, "nope")
    await turns()
    leaving.cancel()
    await turns()
    await start(health)
    await turns()
    assert (first, second) == ([NOT_SERVING], [NOT_SERVING, SERVING])
    await health.drain()
    await health.close()
    await asyncio.gather(staying, other)
    assert second == [NOT_SERVING, SERVING, NOT_SERVING]
    assert unknown == [SERVICE_UNKNOWN]
