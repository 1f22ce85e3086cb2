"""Pieces of answers: what is handed over together, and what is not held up."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from services.common.errors import Kind, ServiceError
from services.gateway import pieces as module
from services.gateway.pieces import Call, Pieces


@pytest.fixture(autouse=True)
def long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for more for so long that a wait which nothing ends would show."""
    monkeypatch.setattr(module, "TOGETHER_SECONDS", 600.0)


def call(*steps: str | Exception) -> Call[str]:
    async def pieces() -> AsyncGenerator[str, None]:
        for step in steps:
            await asyncio.sleep(0)
            if isinstance(step, Exception):
                raise step
            yield step

    return Call(pieces(), lambda name: name)


async def test_pieces_that_come_soon_after_others_come_together() -> None:
    pieces = Pieces([call("a", "b", "c", "d")])
    assert await pieces.ready() == [(0, "a")]
    assert await pieces.ready() == [(0, "b"), (0, "c"), (0, "d")]
    assert await pieces.ready() is None
    await pieces.close()


async def test_an_error_comes_after_the_pieces_before_it_and_ends_the_wait() -> None:
    broken = ServiceError(Kind.UNAVAILABLE, "broken")
    pieces = Pieces([call("a", "b", broken), call("x")])
    first = await pieces.ready()
    assert first
    second = await pieces.ready()
    assert sorted([*first, *(second or [])]) == [(0, "a"), (0, "b"), (1, "x")]
    with pytest.raises(ServiceError, match="broken"):
        await pieces.ready()
    await pieces.close()


async def test_pieces_with_time_between_them_are_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER_SECONDS", 0.0)
    go = asyncio.Event()

    async def slow() -> AsyncGenerator[str, None]:
        yield "a"
        await go.wait()
        yield "b"
        await asyncio.Event().wait()

    pieces = Pieces([Call(slow(), lambda name: name)])
    assert await pieces.ready() == [(0, "a")]
    go.set()
    assert await pieces.ready() == [(0, "b")]
    await pieces.close()
