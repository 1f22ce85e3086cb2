"""Signs of life: something is heard of slow work at regular times."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

Item = TypeVar("Item")


async def with_pulse(source: AsyncGenerator[Item, None], seconds: float) -> AsyncGenerator[Item | None, None]:
    """Yield what `source` yields, and None whenever nothing has come for so many seconds. Closes the source."""
    coming: asyncio.Task[Item] | None = None
    try:
        while True:
            coming = coming or asyncio.create_task(_next(source))
            await asyncio.wait([coming], timeout=seconds)
            if not coming.done():
                yield None
                continue
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield item
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await source.aclose()


async def _next(source: AsyncGenerator[Item, None]) -> Item:
    return await anext(source)
