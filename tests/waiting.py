"""Waiting for a condition, never for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")
POLL_SECONDS = 0.02


async def until(condition: Callable[[], Value | Awaitable[Value]], what: str = "", limit: float = 60.0) -> Value:
    """Return the first true value of `condition`; fail when there is none in `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {limit} s in vain for {what or condition}"
        await asyncio.sleep(POLL_SECONDS)


async def turns(count: int = 5) -> None:
    """Let everything that is ready on the event loop run."""
    for _ in range(count):
        await asyncio.sleep(0)
