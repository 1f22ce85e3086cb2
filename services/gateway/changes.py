"""Changes: lets any number of tasks wait until something is different."""

import asyncio


class Changes:
    """A version number that waiters can follow without missing a step."""

    def __init__(self) -> None:
        self.version = 0
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Say that something changed."""
        self.version += 1
        self._next.set()
        self._next = asyncio.Event()

    async def after(self, version: int) -> int:
        """Wait until the version is another than `version` and return it."""
        while self.version == version:
            await self._next.wait()
        return self.version
