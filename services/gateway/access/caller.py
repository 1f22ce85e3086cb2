"""The caller of a request: its key, what that covers, and what its calls to services use."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

from google.protobuf.message import Message
from opentelemetry.metrics import Counter as Instrument

from services.common.errors import Kind, ServiceError
from services.gateway.access.contents import (
    AUDIO_SECONDS,
    Shape,
    Used,
    estimate,
    models_in,
    parsed,
    progress_in,
    shape_of,
    usage_in,
)
from services.gateway.access.key_file import ALL, Key, covers
from services.gateway.access.limits import Level, Limit, LimitStore, Renewal, Short

REQUESTS, CONCURRENCY = "requests", "concurrency"
UNKNOWN_WAIT_SECONDS = 1.0

current: ContextVar["Caller | None"] = ContextVar("caller", default=None)
"""Who makes the request being served; None where no key is asked for."""


class Account:
    """A key in force, with its limits and how long its requests take."""

    def __init__(self, key: Key, mean_seconds: float | None = None) -> None:
        self.key, self.mean_seconds = key, mean_seconds
        limits = list(_limits(key))
        self.shown = [limit for limit in limits if limit.unit != CONCURRENCY]
        """Those that answers tell of."""
        self._limits = tuple(limits)
        self._of: dict[tuple[str, ...], tuple[Limit, ...]] = {}

    def of(self, *units: str) -> Sequence[Limit]:
        """Return the limits of these units."""
        found = self._of.get(units)
        if found is None:
            found = self._of[units] = tuple(limit for limit in self._limits if limit.unit in units)
        return found

    def took(self, seconds: float) -> None:
        """Count a request."""
        self.mean_seconds = seconds if self.mean_seconds is None else 0.9 * self.mean_seconds + 0.1 * seconds


@dataclass(frozen=True, slots=True)
class Ledger:
    """What all callers share."""

    store: LimitStore
    names_of: Callable[[str], Awaitable[set[str]]]
    """Gives the public ids that a name stands for."""
    used: Instrument
    limited: Instrument


@dataclass(slots=True)
class Caller:
    """The holder of a key, for one request."""

    account: Account
    ledger: Ledger
    _began: float = field(default_factory=time.monotonic)

    async def enter(self) -> None:
        """Count the request. Raises OVERLOADED where a limit of requests is reached."""
        await self._take(dict.fromkeys(self.account.of(REQUESTS, CONCURRENCY), 1.0))

    async def leave(self) -> None:
        """The request is over."""
        self.account.took(time.monotonic() - self._began)
        if places := self.account.of(CONCURRENCY):
            await self.ledger.store.settle(self.key.id, dict.fromkeys(places, -1.0))

    async def levels(self) -> list[Level]:
        """Return how the limits stand, concurrency left out."""
        limits = self.account.shown
        return await self.ledger.store.levels(self.key.id, limits) if limits else []

    @property
    def key(self) -> Key:
        """The key."""
        return self.account.key

    @property
    def every_model(self) -> bool:
        """Whether the key covers all models."""
        return self.key.models == ALL

    async def covers_model(self, name: str) -> bool:
        """Whether the key covers a model; `name` is its public id or a name in Triton."""
        if self.every_model or covers(self.key.models, name):
            return True
        return any(covers(self.key.models, public) for public in await self.ledger.names_of(name))

    async def check_model(self, name: str, field_name: str = "model") -> None:
        """Refuse a model that the key does not cover. Raises PERMISSION_DENIED that says which it covers."""
        if not await self.covers_model(name):
            sentence = f"this API key does not cover model '{name}'" if name else "this API key needs a model named"
            message = f"{sentence}; it covers: {', '.join(self.key.models)}"
            raise ServiceError(Kind.PERMISSION_DENIED, message, field=field_name, code="model_not_allowed")

    async def check(self, service: str, shape: Shape | None, request: Message | None, first: bool = True) -> None:
        """Refuse a call that the key does not cover; `request` is one of its messages. Raises PERMISSION_DENIED."""
        if shape is None or shape.models:
            self.check_service(service)
        if self.every_model or (shape is not None and not shape.models):
            return
        named = models_in(shape, request) if shape is not None and request is not None else []
        if not named and (first or shape is None or not shape.nested):
            named = [""]
        for name in named:
            await self.check_model(name)

    async def shown(self, method: str, response: bytes) -> bytes:
        """Return a response without the models that the key does not cover, of a method that lists them."""
        shape = shape_of(method) if method.endswith("/ListModels") else None
        if shape is None or self.every_model:
            return response
        message: Any = parsed(shape.response, response)
        for model in list(message.models):
            if not await self.covers_model(model.id):
                message.models.remove(model)
        return cast(bytes, message.SerializeToString())

    async def reserve(self, used: Used) -> dict[Limit, float]:
        """Take what a call is expected to use. Raises OVERLOADED where a limit is reached."""
        amounts = {limit: used.get(limit.unit, 0.0) for limit in self.account.of(*used)}
        await self._take(amounts)
        return amounts

    async def settle(self, reserved: dict[Limit, float], used: Used) -> None:
        """Replace what was reserved by what was used."""
        amounts = {limit: used.get(limit.unit, 0.0) - reserved.get(limit, 0.0) for limit in self.account.of(*used)}
        amounts |= {limit: -amount for limit, amount in reserved.items() if limit not in amounts}
        if amounts:
            await self.ledger.store.settle(self.key.id, amounts)
        for unit, amount in used.items():
            self.ledger.used.add(amount, {"key": self.key.id, "unit": unit})

    def check_service(self, service: str) -> None:
        """Refuse a service that the key does not cover. Raises PERMISSION_DENIED."""
        if not covers(self.key.services, service):
            covered = ", ".join(self.key.services)
            message = f"this API key does not cover service '{service}'; it covers: {covered}"
            raise ServiceError(Kind.PERMISSION_DENIED, message, code="service_not_allowed")

    async def _take(self, amounts: dict[Limit, float]) -> None:
        short = await self.ledger.store.take(self.key.id, amounts) if amounts else None
        if short is not None:
            self.ledger.limited.add(1, {"key": self.key.id, "limit": _name(short.limit)})
            raise self._over(short)

    def _over(self, short: Short) -> ServiceError:
        wait, limit = short.wait, short.limit
        if wait is None:
            mean = self.account.mean_seconds
            wait = UNKNOWN_WAIT_SECONDS if mean is None else mean / limit.amount
        message = f"the limit of this API key is reached: {_name(limit)} is {limit.amount:g}; try again in {wait:.3g} s"
        code = "insufficient_quota" if limit.renewal == "day" else "rate_limit_exceeded"
        return ServiceError(Kind.OVERLOADED, message, code=code, retry_after=max(wait, 0.001))


First = Message | bytes | Callable[[], Awaitable[Message | bytes | None]]
"""The first message of a call, decoded or as it came, or how to get it."""


class Charge:
    """Counts what one call to a service uses."""

    def __init__(self, service: str = "", caller: Caller | None = None, shape: Shape | None = None) -> None:
        self._service, self._caller, self._shape = service, caller, shape
        self._final: Used | None = None
        self._progress: dict[str, float] = {}
        self.begun = False

    def count(self, response: Message) -> None:
        """Look at a message of the answer."""
        if self._caller is None or self._shape is None:
            return
        self.begun = True
        self._final = usage_in(self._shape, response) or self._final
        for unit, amount in progress_in(self._shape, response).items():
            so_far = self._progress.get(unit, 0.0)
            self._progress[unit] = max(so_far, amount) if unit == AUDIO_SECONDS else so_far + amount

    def count_raw(self, response: bytes) -> None:
        """Look at a message of the answer as it came."""
        if self._caller is not None and self._shape is not None and self._shape.units:
            self.count(parsed(self._shape.response, response))

    async def check(self, request: bytes) -> None:
        """Refuse a further message of the call where it names a model that the key does not cover."""
        if self._caller is not None and not self._caller.every_model:
            message = None if self._shape is None else parsed(self._shape.request, request)
            await self._caller.check(self._service, self._shape, message, first=False)

    def total(self, least: Used, cancelled: bool) -> Used:
        """Return what was used: as the service says, else what the answer has shown, and the request where it ran."""
        if self._final is not None:
            return self._final
        seen = least if self.begun or cancelled else {}
        units = {*seen, *self._progress}
        return {unit: seen.get(unit, 0.0) + self._progress.get(unit, 0.0) for unit in units}


@asynccontextmanager
async def charged(service: str, method: str, first: First) -> AsyncIterator[Charge]:
    """Check that the caller may make a call, and count what it uses while the block runs.

    `method` is "/package.Service/Method", `first` its first message. Raises PERMISSION_DENIED, OVERLOADED.
    """
    caller, shape = current.get(), shape_of(method)
    if caller is None or (shape is not None and not shape.models):  # no key is asked for, or no model is used
        yield Charge()
        return
    request = await first() if callable(first) else first
    if isinstance(request, bytes):
        looked_at = shape is not None and (shape.units or not caller.every_model)
        request = parsed(shape.request, request) if shape is not None and looked_at else None
    await caller.check(service, shape, request)
    least, most = ({}, {}) if shape is None or request is None else estimate(shape, request)
    reserved = await caller.reserve(most)
    charge, cancelled = Charge(service, caller, shape), False
    try:
        yield charge
    except (asyncio.CancelledError, GeneratorExit):
        cancelled = True
        raise
    finally:
        await caller.settle(reserved, charge.total(least, cancelled))


@contextmanager
def as_gateway() -> Iterator[None]:
    """Make calls on behalf of nobody while the block runs: what the caller may not see is left out of the answer."""
    token = current.set(None)
    try:
        yield
    finally:
        current.reset(token)


async def check_model(name: str, field_name: str) -> None:
    """Refuse a model that the caller's key, where one is asked for, does not cover. Raises PERMISSION_DENIED."""
    caller = current.get()
    if caller is not None:
        await caller.check_model(name, field_name)


async def covered(model: str) -> bool:
    """Whether the caller may use a model: its key covers it, or none is asked for."""
    caller = current.get()
    return caller is None or await caller.covers_model(model)


def _limits(key: Key) -> Iterator[Limit]:
    for name, amount in key.limits:
        if amount is not None:
            unit, _, renewal = name.partition("_per_")
            yield Limit(unit, float(amount), cast(Renewal, renewal or "return"))


def _name(limit: Limit) -> str:
    """Return the name of a limit in the key file."""
    return limit.unit if limit.renewal == "return" else f"{limit.unit}_per_{limit.renewal}"
