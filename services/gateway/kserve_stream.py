"""ModelStreamInfer: every request of a stream goes to the service that has its model, the answers come back on it.

Of a request that is passed on only the name of its model is read.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from google.protobuf.message import DecodeError

from services.common.errors import ServiceError, invalid
from services.common.kserve import TYPED_ERRORS
from services.common.triton import service_pb2
from services.gateway.backends import Backend
from services.gateway.directory import Directory
from services.gateway.forwarding import Context, Requests, forward
from services.gateway.wire import text_field

_AHEAD = 4  # requests that wait for a service to take them, answers that wait for the caller


class ModelStream:
    """One such call."""

    def __init__(self, method: str, directory: Directory, context: Context) -> None:
        self._method, self._directory = method, directory
        self._typed = TYPED_ERRORS in {(key, value) for key, value in context.invocation_metadata() or ()}
        self._context = _OneCaller(context)
        self._answers: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_AHEAD)
        self._waiting: dict[Backend, asyncio.Queue[bytes | None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._running = 1  # sources of answers: the requests themselves, and the calls to services

    async def responses(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Pass on the requests and yield the answers. What ends a service's call early ends the stream with it."""
        self._start(self._route(requests))
        try:
            while self._running:
                answer = await self._answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                if answer is None:
                    self._running -= 1
                else:
                    self._context.answered = True
                    yield answer
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _route(self, requests: AsyncIterator[bytes]) -> None:
        async for request in requests:
            try:
                backend = await self._directory.backend_of(text_field(request, 1))
            except ServiceError as error:
                if self._typed:
                    raise
                await self._answers.put(_refused(request, error))
            else:
                await self._queue(backend).put(request)
        for queue in self._waiting.values():
            await queue.put(None)

    def _queue(self, backend: Backend) -> "asyncio.Queue[bytes | None]":
        if backend not in self._waiting:
            self._waiting[backend] = asyncio.Queue(_AHEAD)
            self._running += 1
            self._start(self._forward(backend, self._waiting[backend]))
        return self._waiting[backend]

    async def _forward(self, backend: Backend, queue: "asyncio.Queue[bytes | None]") -> None:
        context, requests = cast(Context, self._context), Requests(_until_none(queue))
        async with aclosing(forward(self._method, backend, requests, context)) as responses:
            async for response in responses:
                await self._answers.put(response)

    def _start(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(self._reporting(work)))

    async def _reporting(self, work: Any) -> None:
        try:
            await work
        except Exception as error:
            await self._answers.put(error)
        else:
            await self._answers.put(None)


class _OneCaller:
    """The context of the caller, shared by the calls to several services: initial metadata leaves once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.answered = False  # whether initial metadata, or a message, has left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Send those of the service that is first; later is too late."""
        if not self.answered:
            self.answered = True
            await self._context.send_initial_metadata(metadata)


async def _until_none(queue: "asyncio.Queue[bytes | None]") -> AsyncIterator[bytes]:
    while (request := await queue.get()) is not None:
        yield request


def _refused(raw: bytes, error: ServiceError) -> bytes:
    """Return the answer to a request that goes nowhere, with its id."""
    answer = service_pb2.ModelStreamInferResponse(error_message=error.message)
    try:
        answer.infer_response.id = service_pb2.ModelInferRequest.FromString(raw).id
    except DecodeError:
        raise invalid(None, "the request is not a valid message") from None
    return cast(bytes, answer.SerializeToString())
