"""A call that is given up frees its place, and what it has not run yet is not computed."""

import asyncio

import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb

from services.common.errors import Kind, from_rpc_error
from tests.waiting import until

HEAVY = pb.EmbedRequest(inputs=[pb.Input(text="many words in a row " * 40)] * 2048)
LIGHT = pb.EmbedRequest(inputs=[pb.Input(text="a word")])


async def cancelled_items(service) -> float:
    return await service.metric("flotilla_batch_items_cancelled_total")


async def running(service) -> float:
    return await service.metric("flotilla_admission_running")


async def batches(service) -> float:
    return await service.metric("flotilla_batch_items_count")


async def assert_idle(service, stub) -> None:
    async def idle() -> bool:
        return await running(service) == 0

    await until(idle, "no running calls")
    done = await batches(service)
    await stub.Embed(LIGHT)
    assert await batches(service) <= done + 3  # the light call and what was in the engine, not the heavy rest


async def test_a_cancelled_call_is_not_computed(service, stub):
    before, started = await cancelled_items(service), await batches(service)
    call = stub.Embed(HEAVY)
    task = asyncio.ensure_future(call)

    async def begun() -> bool:
        return await batches(service) > started

    await until(begun, "the first batch")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_idle(service, stub)
    assert await cancelled_items(service) > before + 1500


async def test_an_expired_call_is_not_computed(service, stub):
    before = await service.metric("flotilla_batch_items_sum")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Embed(HEAVY, timeout=1.0)
    assert from_rpc_error(caught.value).kind is Kind.DEADLINE_EXCEEDED
    await assert_idle(service, stub)
    assert await service.metric("flotilla_batch_items_sum") < before + 1000


async def test_small_calls_overtake_a_large_one(service, stub):
    heavy = asyncio.ensure_future(stub.Embed(HEAVY))

    async def begun() -> bool:
        return await running(service) > 0

    await until(begun, "the heavy call")
    for _ in range(5):
        await stub.Embed(LIGHT)
    assert not heavy.done()
    heavy.cancel()
    await asyncio.wait({heavy})
    await assert_idle(service, stub)


async def test_a_closed_connection_cancels_its_calls(service, stub):
    before, started = await cancelled_items(service), await batches(service)
    async with service.channel() as channel:
        call = channel.unary_unary("/flotilla.embedding.v1.EmbeddingService/Embed")(HEAVY.SerializeToString())

        async def begun() -> bool:
            return await batches(service) > started

        await until(begun, "the first batch")
    with pytest.raises(asyncio.CancelledError):
        await call
    await assert_idle(service, stub)
    assert await cancelled_items(service) > before + 1000
