"""Callers that leave, an engine that is killed, overload: nothing hangs, nothing goes on in vain."""

import asyncio

import grpc
import pytest
from flotilla.llm.v1 import llm_pb2 as pb
from flotilla.llm.v1 import llm_pb2_grpc

from services.common.errors import Kind, from_rpc_error
from tests.integration.llm.calls import collect, completion
from tests.integration.service_process import ServiceProcess
from tests.waiting import until

ENDLESS = completion("Once upon a time", max_tokens=4000, ignore_eos=True, temperature=0.5)


async def to_the_end(call):
    while await call.read() is not grpc.aio.EOF:
        pass


async def idle(service):
    return await service.metric("flotilla_llm_running") == await service.metric("flotilla_admission_running") == 0


async def test_a_caller_that_leaves_stops_the_engine(service, stub):
    before = await service.metric("flotilla_llm_cancelled_total")
    call = stub.Generate(ENDLESS)
    await call.read()

    async def runs():
        return await service.metric("flotilla_llm_running") == 1

    await until(runs, "the answer")
    call.cancel()
    await until(lambda: idle(service), "the engine to be idle")
    assert await service.metric("flotilla_llm_cancelled_total") == before + 1
    assert await service.metric("flotilla_llm_wasted_tokens_total", reason="cancelled") > 0


async def test_a_hundred_callers_that_leave(service, stub):
    calls = [stub.Generate(ENDLESS) for _ in range(100)]
    await asyncio.wait([asyncio.ensure_future(call.read()) for call in calls], return_when="FIRST_COMPLETED")
    for call in calls:
        call.cancel()
    await until(lambda: idle(service), "the engine to be idle")
    assert await service.metric("flotilla_admission_waiting") == 0
    (answer,), _ = await collect(stub.Generate(completion("still well", max_tokens=2)))
    assert answer.tokens


async def test_a_deadline_ends_an_answer_on_its_way(service, stub):
    call = stub.Generate(ENDLESS, timeout=2.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [_ async for _ in call]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: idle(service), "the engine to be idle")


async def test_overload_says_when_to_come_back(store, tmp_path):
    environment = {"FLOTILLA_LLM_ADMISSION_CONCURRENCY": "2", "FLOTILLA_LLM_ADMISSION_QUEUE": "1"}
    async with ServiceProcess(tmp_path, environment, name="llm") as service, service.channel() as channel:
        stub = llm_pb2_grpc.LlmServiceStub(channel)
        calls = [stub.Generate(ENDLESS) for _ in range(2)]
        await asyncio.gather(*(call.read() for call in calls))
        calls.append(stub.Generate(ENDLESS))

        async def waits():
            return await service.metric("flotilla_admission_waiting") == 1

        await until(waits, "the queue")
        assert await service.metric("flotilla_saturation") >= 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(stub.Generate(ENDLESS))
        error = from_rpc_error(caught.value)
        assert (error.kind, error.code) == (Kind.OVERLOADED, "queue_full")
        assert error.retry_after is not None
        for call in calls:
            call.cancel()
        await until(lambda: idle(service), "the engine to be idle")


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_killed_stub_ends_every_stream_and_comes_back(store, tmp_path, victim):
    async with ServiceProcess(tmp_path, name="llm") as service, service.channel() as channel:
        stub = llm_pb2_grpc.LlmServiceStub(channel)
        calls = [stub.Generate(ENDLESS) for _ in range(6)]
        await asyncio.gather(*(call.read() for call in calls))
        service.stubs()[victim].kill()
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await to_the_end(call)
            error = from_rpc_error(caught.value)
            assert error.kind is Kind.UNAVAILABLE
            assert error.retry_after
        await service.wait_ready()
        (answer,), _ = await collect(stub.Generate(completion("still well", max_tokens=2)))
        assert answer.tokens
        await until(lambda: idle(service), "the engine to be idle")
        assert await service.metric("flotilla_triton_restarts") == 1


async def test_an_engine_that_stands_still_ends_its_streams(store, tmp_path):
    environment = {"FLOTILLA_LLM_ENGINE_SILENCE_SECONDS": "2"}
    async with ServiceProcess(tmp_path, environment, name="llm") as service, service.channel() as channel:
        call = llm_pb2_grpc.LlmServiceStub(channel).Generate(ENDLESS)
        await call.read()
        for stub in service.stubs():
            stub.suspend()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_the_end(call)
        assert from_rpc_error(caught.value).kind is Kind.UNAVAILABLE
        await service.wait_ready()


async def test_requests_of_one_user_do_not_starve_another(store, tmp_path):
    environment = {"FLOTILLA_LLM_ADMISSION_CONCURRENCY": "1"}
    async with ServiceProcess(tmp_path, environment, name="llm") as service, service.channel() as channel:
        stub = llm_pb2_grpc.LlmServiceStub(channel)
        order: list[str] = []

        async def ask(user):
            sampling = pb.Sampling(max_tokens=4, ignore_eos=True)
            await collect(stub.Generate(pb.GenerateRequest(text="Hello", user=user, sampling=sampling)))
            order.append(user)

        flood = [asyncio.ensure_future(ask("flood")) for _ in range(20)]

        async def queued():
            return await service.metric("flotilla_admission_waiting") > 10

        await until(queued, "the flood")
        await ask("other")
        assert order.index("other") < 12
        await asyncio.gather(*flood)
