"""The directory: which models are loaded, and which service has them. Asked from the services, kept for a while."""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.errors import Kind, ServiceError
from services.common.triton import service_pb2
from services.gateway.access.caller import check_model, covered
from services.gateway.backends import Backend, Method
from services.gateway.fleet import Card, Fleet, Service

FRESH_SECONDS = 30.0

REPOSITORY_INDEX = Method(
    "/inference.GRPCInferenceService/RepositoryIndex",
    service_pb2.RepositoryIndexRequest,
    service_pb2.RepositoryIndexResponse,
)


@dataclass(slots=True)
class _Entry:
    """What one service has loaded, as last heard."""

    service: Service
    cards: list[Card] = field(default_factory=list)
    triton_models: frozenset[str] = frozenset()
    generation: tuple[tuple[str, int], ...] = ()
    heard: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def listed(self) -> bool:
        return self.service.backend.serving or self.service.backend.holds

    @property
    def unheard(self) -> bool:
        return not self.cards and not self.service.backend.serving

    def has(self, name: str) -> bool:
        return name in self.triton_models or any(card.id == name for card in self.cards)

    @property
    def current(self) -> bool:
        return self.generation == self.service.backend.generation

    @property
    def fresh(self) -> bool:
        return self.current and time.monotonic() - self.heard < FRESH_SECONDS


class Directory:
    """Every model of the fleet.

    Those of a service that does not serve are known for routing. They are listed where calls are held for it, because
    the next call starts it.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._entries = [_Entry(service) for service in fleet.services]
        self._changes = fleet.changes

    async def follow(self) -> None:
        """Ask every service that calls are held for as soon as it serves: later it may be at zero. Until cancelled."""
        held = [entry for entry in self._entries if entry.service.backend.holds]
        while held:
            version = self._changes.version
            await asyncio.gather(*(_refresh(entry) for entry in held if not entry.current))
            await self._changes.after(version)

    async def cards(self) -> list[Card]:
        """Return every loaded model that the caller may use."""
        cards = [card for entry in await self._current() if entry.listed for card in entry.cards]
        return [card for card in cards if await covered(card.id)]

    async def has(self, model: str) -> bool:
        """Whether the model with the public id `model` is loaded."""
        return any(card.id == model for card in await self.cards())

    async def find(self, model: str) -> Card:
        """Return the model with the public id `model`. Raises NOT_FOUND that lists what is loaded."""
        for card in await self.cards():
            if card.id == model:
                return card
        raise await self._unknown("model", model)

    async def backend_of(self, name: str, patience: float | None = None) -> Backend:
        """Return the service that has `name`, a name in Triton or a public id, or had it when it last served.

        While services were never heard that calls are held for, one of them may have it: they are waited for, for
        `patience` seconds at most. Raises NOT_FOUND that lists what is loaded; UNAVAILABLE while a service that may
        have it was never heard; PERMISSION_DENIED where the caller may not use it.
        """
        await check_model(name, "model_name")
        backend = await self._holder(name) or await self._awaited(name, math.inf if patience is None else patience)
        if backend is None:
            raise await self._unknown("model_name", name)
        return backend

    async def _holder(self, name: str) -> Backend | None:
        return next((entry.service.backend for entry in await self._current() if entry.has(name)), None)

    async def _awaited(self, name: str, patience: float) -> Backend | None:
        deadline = time.monotonic() + patience
        starting = [entry.service.backend for entry in self._entries if entry.unheard and entry.service.backend.holds]
        picks = [asyncio.ensure_future(backend.pick(deadline=deadline)) for backend in starting]
        try:
            for pick in asyncio.as_completed(picks):
                with contextlib.suppress(ServiceError):
                    await pick
                if backend := await self._holder(name):
                    return backend
            return None
        finally:
            for task in picks:
                task.cancel()
            await asyncio.gather(*picks, return_exceptions=True)

    async def names_of(self, name: str) -> set[str]:
        """Return the public ids that `name`, a name in Triton or a public id, stands for."""
        cards = [card for entry in await self._current() for card in entry.cards]
        return {card.id for card in cards if name == card.id or name in card.triton_models}

    async def _unknown(self, field_name: str, name: str) -> ServiceError:
        entries = await self._current()
        for entry in entries:
            if entry.unheard:
                return entry.service.backend.unavailable()
        loaded = {card.id for entry in entries for card in entry.cards}
        if field_name == "model_name":
            loaded = {triton_name for entry in entries for triton_name in entry.triton_models}
        listed = sorted([known for known in loaded if await covered(known)])
        message = f"model '{name}' is not loaded; loaded: {', '.join(listed) or 'none'}"
        return ServiceError(Kind.NOT_FOUND, message, field=field_name, code="model_not_found")

    async def _current(self) -> Sequence[_Entry]:
        await asyncio.gather(*(_refresh(entry) for entry in self._entries if not entry.fresh))
        return self._entries


async def _refresh(entry: _Entry) -> None:
    async with entry.asking:
        if entry.fresh:
            return
        generation = entry.service.backend.generation
        if entry.service.backend.serving:
            await _ask(entry)
        entry.generation, entry.heard = generation, time.monotonic()


async def _ask(entry: _Entry) -> None:
    """Ask a service what it has; what was known stays when it does not answer."""
    backend = entry.service.backend
    try:
        cards = await entry.service.list_models(backend)
    except ServiceError:
        return
    names = {name for card in cards for name in card.triton_models}
    with contextlib.suppress(ServiceError):  # it may serve no raw KServe
        index = await backend.ask(REPOSITORY_INDEX, service_pb2.RepositoryIndexRequest())
        names.update(model.name for model in index.models)
    entry.cards, entry.triton_models = cards, frozenset(names)
