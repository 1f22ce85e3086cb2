"""What belongs to the request being served, carried by context variables so that logs and calls onward find it."""

import re
import uuid
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# Metadata keys between the gateway and the services; the gateway alone may set the last two.
REQUEST_ID = "x-request-id"
PRINCIPAL = "x-flotilla-principal"
PRIORITY = "x-flotilla-priority"

_WELL_FORMED = re.compile(r"[\x21-\x7e]{1,128}")
_PRIORITY = re.compile(r"-?[0-9]{1,9}")


def adopt_request_id(offered: str | None) -> str:
    """Set and return the request's id: the caller's where it is 1 to 128 printable ASCII characters, else a new one."""
    identifier = offered if offered is not None and _WELL_FORMED.fullmatch(offered) else uuid.uuid4().hex
    request_id.set(identifier)
    return identifier


def principal_of(context: Any, user: str = "") -> str:
    """Return who makes the call of a gRPC servicer context: the gateway's word, else `user` as the caller says."""
    return next((str(value) for key, value in context.invocation_metadata() or () if key == PRINCIPAL), user)


def priority_of(context: Any) -> int:
    """Return the priority the gateway gave the call of a gRPC servicer context: 0 unless set, lower goes first."""
    for key, value in context.invocation_metadata() or ():
        if key == PRIORITY and _PRIORITY.fullmatch(str(value)):
            return int(value)
    return 0
