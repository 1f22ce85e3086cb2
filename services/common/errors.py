"""The one error type of Flotilla and the one table that gives it a gRPC code, an HTTP status and an OpenAI type.

    ServiceError(kind, message, field=..., retry_after=...)

It crosses gRPC as google.rpc.Status (https://cloud.google.com/apis/design/errors): ErrorInfo carries the kind as
`reason`, BadRequest names the field, RetryInfo says when to come back. `from_rpc_error` reads it back unchanged.
"""

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "flotilla"
STATUS_METADATA_KEY = "grpc-status-details-bin"
# A message may quote what the caller sent; status and details together must fit gRPC's 8 KiB of trailing metadata.
MESSAGE_MAX_BYTES, NAME_MAX_BYTES = 1024, 256


class Kind(Enum):
    """What went wrong. The name is the `reason` on the wire; docs/errors.md explains each."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    TOO_LARGE = "TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    OVERLOADED = "OVERLOADED"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    NOT_STARTED = "NOT_STARTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of error looks on each transport."""

    grpc: grpc.StatusCode
    http: int
    openai: str


_Code = grpc.StatusCode
TABLE: dict[Kind, Row] = {
    Kind.INVALID_ARGUMENT: Row(_Code.INVALID_ARGUMENT, 400, "invalid_request_error"),
    Kind.UNAUTHENTICATED: Row(_Code.UNAUTHENTICATED, 401, "authentication_error"),
    Kind.PERMISSION_DENIED: Row(_Code.PERMISSION_DENIED, 403, "permission_error"),
    Kind.NOT_FOUND: Row(_Code.NOT_FOUND, 404, "not_found_error"),
    Kind.METHOD_NOT_ALLOWED: Row(_Code.UNIMPLEMENTED, 405, "invalid_request_error"),
    Kind.REQUEST_TIMEOUT: Row(_Code.DEADLINE_EXCEEDED, 408, "timeout_error"),
    Kind.TOO_LARGE: Row(_Code.INVALID_ARGUMENT, 413, "invalid_request_error"),
    Kind.UNSUPPORTED_MEDIA_TYPE: Row(_Code.INVALID_ARGUMENT, 415, "invalid_request_error"),
    Kind.OVERLOADED: Row(_Code.RESOURCE_EXHAUSTED, 429, "rate_limit_error"),
    Kind.CANCELLED: Row(_Code.CANCELLED, 499, "cancelled_error"),
    Kind.INTERNAL: Row(_Code.INTERNAL, 500, "server_error"),
    Kind.UNIMPLEMENTED: Row(_Code.UNIMPLEMENTED, 501, "not_implemented_error"),
    Kind.NOT_STARTED: Row(_Code.UNAVAILABLE, 503, "service_unavailable_error"),
    Kind.UNAVAILABLE: Row(_Code.UNAVAILABLE, 503, "service_unavailable_error"),
    Kind.DEADLINE_EXCEEDED: Row(_Code.DEADLINE_EXCEEDED, 504, "timeout_error"),
}

# Read-back of statuses that carry no ErrorInfo (a plain gRPC peer, Triton): the first kind of each code wins.
_KIND_OF_CODE: dict[grpc.StatusCode, Kind] = {
    _Code.INVALID_ARGUMENT: Kind.INVALID_ARGUMENT,
    _Code.OUT_OF_RANGE: Kind.INVALID_ARGUMENT,
    _Code.FAILED_PRECONDITION: Kind.INVALID_ARGUMENT,
    _Code.ALREADY_EXISTS: Kind.INVALID_ARGUMENT,
    _Code.UNAUTHENTICATED: Kind.UNAUTHENTICATED,
    _Code.PERMISSION_DENIED: Kind.PERMISSION_DENIED,
    _Code.NOT_FOUND: Kind.NOT_FOUND,
    _Code.RESOURCE_EXHAUSTED: Kind.OVERLOADED,
    _Code.CANCELLED: Kind.CANCELLED,
    _Code.UNIMPLEMENTED: Kind.UNIMPLEMENTED,
    _Code.UNAVAILABLE: Kind.UNAVAILABLE,
    _Code.DEADLINE_EXCEEDED: Kind.DEADLINE_EXCEEDED,
}


@dataclass(eq=False)
class ServiceError(Exception):
    """A fault the caller is told about.

    `field` names the offending request field in the caller's terms, `retry_after` is in seconds, `code` is a short
    machine-readable word for OpenAI's `error.code` (for example "model_not_found").
    """

    kind: Kind
    message: str
    field: str | None = dataclasses.field(default=None, kw_only=True)
    code: str | None = dataclasses.field(default=None, kw_only=True)
    retry_after: float | None = dataclasses.field(default=None, kw_only=True)

    def __str__(self) -> str:
        return self.message

    @property
    def row(self) -> Row:
        """This error's line of the table."""
        return TABLE[self.kind]


def invalid(field_name: str | None, message: str, *, code: str | None = None) -> ServiceError:
    """Return the error for a request field that cannot be accepted."""
    return ServiceError(Kind.INVALID_ARGUMENT, message, field=field_name, code=code)


def to_status(error: ServiceError) -> status_pb2.Status:
    """Return the google.rpc.Status that carries `error` with all its parts."""
    message = _cut(error.message, MESSAGE_MAX_BYTES)
    status = status_pb2.Status(code=error.row.grpc.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=error.kind.name, domain=DOMAIN)
    if error.field is not None:
        info.metadata["field"] = _cut(error.field, NAME_MAX_BYTES)
    if error.code is not None:
        info.metadata["code"] = _cut(error.code, NAME_MAX_BYTES)
    status.details.add().Pack(info)
    if error.field is not None:
        bad_request = error_details_pb2.BadRequest()
        bad_request.field_violations.add(field=info.metadata["field"], description=message)
        status.details.add().Pack(bad_request)
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> ServiceError:
    """Return the error that `to_status` put into `status`; a foreign status keeps its code and message."""
    code = _grpc_code(status.code)
    error = ServiceError(_KIND_OF_CODE.get(code, Kind.INTERNAL), status.message)
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in Kind.__members__:
            error.kind = Kind[info.reason]
            error.field = info.metadata.get("field")
            error.code = info.metadata.get("code")
        elif detail.Unpack(retry):
            error.retry_after = retry.retry_delay.ToMilliseconds() / 1000
    return error


def from_rpc_error(error: grpc.RpcError) -> ServiceError:
    """Return the ServiceError a gRPC call failed with. `error` is a grpc.aio.AioRpcError or any grpc.Call."""
    call: Any = error
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # a peer whose details contradict its status
        status = None
    if status is not None:
        return from_status(status)
    return ServiceError(_KIND_OF_CODE.get(call.code(), Kind.INTERNAL), call.details() or call.code().name)


def _grpc_code(number: int) -> grpc.StatusCode:
    name = code_pb2.Code.Name(number) if number in code_pb2.Code.values() else "UNKNOWN"
    return grpc.StatusCode[name]


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="replace")
    return text if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore") + "..."
