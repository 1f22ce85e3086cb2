"""The engine's statistics, asked for again and again: for metrics, for the load, and to know that it is alive."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.common.errors import Kind, ServiceError
from services.common.load import Load
from services.llm.model import LanguageModel, Statistics

_log = logging.getLogger(__name__)


class EngineWatch:
    """Watches one engine. Answers that run under `alive` end when it dies: their own streams may not notice."""

    def __init__(
        self, model: LanguageModel, load: Load, slots: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.now = Statistics()
        self._model, self._load, self._slots, self._clock = model, load, slots, clock
        self._at = clock()
        self._open: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Run the block while the engine lives. Raises UNAVAILABLE when it dies."""
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._open.add(scope)
                try:
                    yield
                finally:
                    self._open.discard(scope)
        except TimeoutError:
            raise engine_died() from None

    async def run(self, seconds: float) -> None:
        """Ask every so many seconds, for ever."""
        while True:
            await self.ask()
            await asyncio.sleep(seconds)

    async def ask(self) -> None:
        """Ask once. An engine that does not answer ends what is open."""
        try:
            found = await self._model.statistics()
        except ServiceError as fault:
            if self._open:
                _log.error("the engine of %s does not answer: %s", self._model.name, fault)
            self.end_all()
        else:
            self._learn(found)

    def end_all(self) -> None:
        """End every open answer with UNAVAILABLE."""
        self.now = Statistics()
        for scope in tuple(self._open):
            with contextlib.suppress(RuntimeError):  # it ends in this very moment
                scope.reschedule(asyncio.get_running_loop().time())
        self._open.clear()

    def _learn(self, found: Statistics) -> None:
        """Tell the load what a well-filled engine does; at few streams it could do more than it has to."""
        before, self.now = self.now, found
        began, self._at = self._at, self._clock()
        busy = min(before.running, found.running) >= self._slots / 2
        done = work(found) - work(before)
        if busy and done > 0:  # it starts from nothing after a restart
            self._load.worked(done, (self._at - began) * self._load.slots)


def work(statistics: Statistics) -> float:
    """Return the tokens an engine has computed since its start."""
    return statistics.prompt_tokens - statistics.cached_tokens + statistics.generated_tokens


def engine_died() -> ServiceError:
    """Return what callers are told of an engine that died."""
    return ServiceError(
        Kind.UNAVAILABLE, "the engine died; it is being restarted", code="engine_unavailable", retry_after=2.0
    )
