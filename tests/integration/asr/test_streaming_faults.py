"""Live streams when something goes: the engine, or the service itself."""

import asyncio

import grpc
import pytest
from flotilla.asr.v1 import asr_pb2_grpc

from tests.integration.asr.live_calls import TINY, answer, audio, config, jfk, pcm, spoken
from tests.integration.asr.process import asr_process
from tests.integration.service_process import ServiceProcess
from tests.waiting import until


@pytest.fixture
async def mortal(model_store, tmp_path):
    async with asr_process(tmp_path, {"FLOTILLA_DRAIN_GRACE_SECONDS": "12"}) as running:
        yield running


@pytest.fixture
async def mortal_stub(mortal: ServiceProcess):

    async with mortal.channel() as channel:
        yield asr_pb2_grpc.AsrServiceStub(channel)


async def test_a_dead_engine_ends_its_streams_and_the_next_ones_work(mortal: ServiceProcess, mortal_stub):
    async def talking():
        while True:
            async for request in spoken(config(TINY, interim_results=True), jfk(1.0), live=True):
                if request.HasField("config") and began.is_set():
                    continue
                began.set()
                yield request

    began = asyncio.Event()
    running = asyncio.create_task(answer(mortal_stub, talking()))
    await began.wait()
    mortal.triton().kill()
    found = await running
    assert found.fault is not None and found.fault.code() is grpc.StatusCode.UNAVAILABLE
    assert await mortal.metric("flotilla_asr_streams_active") == 0
    await mortal.wait_restarted()
    assert "country" in (await answer(mortal_stub, spoken(config(TINY), jfk()))).words


async def test_a_drain_ends_streams_with_their_finals(mortal: ServiceProcess, mortal_stub):
    async def endless():
        yield config(TINY, interim_results=True)
        while True:
            for start in range(0, len(samples), 1600):
                yield audio(pcm(samples[start : start + 1600]))
                await asyncio.sleep(0.1)

    samples = jfk()
    long = asyncio.create_task(answer(mortal_stub, endless()))
    short = asyncio.create_task(answer(mortal_stub, spoken(config(TINY), jfk()[: 4 * 16_000], live=True)))
    await until(lambda: _active(mortal), "two open streams")
    mortal.terminate()
    done = await short
    assert done.fault is None and "fellow" in done.words
    cut = await long
    assert cut.fault is not None and cut.fault.code() is grpc.StatusCode.UNAVAILABLE
    assert cut.finals and cut.summary is not None and "fellow" in cut.words
    assert await mortal.exit_code() == 0


async def _active(service: ServiceProcess) -> bool:
    return await service.metric("flotilla_asr_streams_active") == 2
