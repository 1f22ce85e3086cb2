import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.common.errors import TABLE, Kind, ServiceError, from_rpc_error, from_status, to_status


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_in_the_table_with_a_code_a_status_and_a_type(kind):
    row = TABLE[kind]
    assert row.grpc is not grpc.StatusCode.OK
    assert 400 <= row.http < 600
    assert row.openai.endswith("_error")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("parts", [{}, {"field": "inputs[3]", "code": "too_long", "retry_after": 1.5}])
def test_every_kind_survives_grpc(kind, parts):
    status = to_status(ServiceError(kind, "what happened", **parts))
    assert status.code == TABLE[kind].grpc.value[0]
    back = from_status(status_pb2.Status.FromString(status.SerializeToString()))
    assert (back.kind, back.message) == (kind, "what happened")
    assert {name: getattr(back, name) for name in parts} == parts


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_a_status_without_details_keeps_its_code(code):
    kind = from_status(status_pb2.Status(code=code.value[0], message="m")).kind
    known = {row.grpc for row in TABLE.values()}
    assert code not in known or TABLE[kind].grpc is code


def test_foreign_details_are_ignored():
    status = status_pb2.Status(code=5, message="gone")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="OVERLOADED", domain="elsewhere"))
    assert from_status(status).kind is Kind.NOT_FOUND


@pytest.mark.parametrize("text", ["x" * 100_000, "ü" * 100_000, "\ud800" * 5000])
def test_what_the_caller_sent_never_outgrows_the_metadata(text):
    status = to_status(ServiceError(Kind.INVALID_ARGUMENT, text, field=text, code=text))
    assert len(status.message.encode()) <= 1024
    assert status.ByteSize() < 4096


def test_a_status_that_contradicts_its_details_is_still_read():
    status = to_status(ServiceError(Kind.OVERLOADED, "one"))
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), metadata, details="another")
    assert from_rpc_error(error).kind is Kind.NOT_FOUND
