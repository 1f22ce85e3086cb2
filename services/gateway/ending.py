"""How a call to a service ended, by that service's own word.

Where the service ends a call while requests are still being sent, grpc.aio may put an error about the sending in the
place of its status: https://github.com/grpc/grpc/issues/36066.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import grpc

_GRACE_SECONDS = 1.0
_OF_SENDING = "Internal error from Core"


class Ending:
    """Watches how one call ends."""

    def __init__(self, call: Any) -> None:
        self._meant: grpc.aio.AioRpcError | None = None
        self._known = asyncio.Event()
        call.add_done_callback(self._note)

    async def meant(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return what the service said where `error` is about the sending, which may be OK; else `error`."""
        if error.details() != _OF_SENDING:
            return error
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._known.wait(), _GRACE_SECONDS)
        return self._meant or error

    def _note(self, call: Any) -> None:
        """Note a status; called for each one that the call gets, at once."""
        code, details = _result(call.code()), _result(call.details())
        if details != _OF_SENDING and self._meant is None:
            initial, trailing = _result(call.initial_metadata()), _result(call.trailing_metadata())
            self._meant = grpc.aio.AioRpcError(code, initial, trailing, details, None)
            self._known.set()


def _result(ready: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as done:
        return done.value
    ready.close()
    return None
