import asyncio

import pytest

from services.asr.pulse import with_pulse


async def numbers(gate, closed):
    try:
        yield 1
        await gate.wait()
        yield 2
    finally:
        closed.append(True)


async def test_signs_of_life_while_nothing_comes() -> None:
    gate, closed = asyncio.Event(), []
    seen = []
    async for item in with_pulse(numbers(gate, closed), 0.001):
        seen.append(item)
        if seen.count(None) == 3:
            gate.set()
    assert [item for item in seen if item] == [1, 2]
    assert seen.count(None) >= 3
    assert closed


async def test_closing_ends_the_source() -> None:
    closed = []
    pulse = with_pulse(numbers(asyncio.Event(), closed), 0.001)
    assert await anext(pulse) == 1
    assert await anext(pulse) is None
    await pulse.aclose()
    assert closed


async def test_a_cancelled_listener_ends_the_source() -> None:
    closed = []
    pulse = with_pulse(numbers(asyncio.Event(), closed), 1000)
    await anext(pulse)
    waiting = asyncio.ensure_future(anext(pulse))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert closed


async def test_faults_pass() -> None:
    async def broken():
        raise ValueError("broken")
        yield

    with pytest.raises(ValueError, match="broken"):
        await anext(with_pulse(broken(), 1))
