"""Reading one field out of an encoded message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Kind, ServiceError
from services.common.triton import service_pb2
from services.gateway.wire import text_field


@given(st.text(), st.text(), st.binary())
def test_the_field_is_read_whatever_follows(name: str, other: str, data: bytes) -> None:
    request = service_pb2.ModelInferRequest(model_name=name, model_version=other, raw_input_contents=[data])
    request.parameters["a"].int64_param = -1
    request.inputs.add(name=other, shape=[-1, 2])
    assert text_field(request.SerializeToString(), 1) == name


@given(st.binary(max_size=64))
def test_bytes_that_protobuf_refuses_are_refused_and_nothing_else_is_raised(data: bytes) -> None:
    try:
        found = text_field(data, 1)
    except ServiceError as error:
        assert error.kind is Kind.INVALID_ARGUMENT
        return
    try:
        expected = service_pb2.ModelReadyRequest.FromString(data).name
    except Exception:  # protobuf looks into the fields too
        return
    assert found == expected


def test_the_last_of_several_counts_and_none_is_empty() -> None:
    assert text_field(b"\x0a\x01a\x0a\x01b", 1) == "b"
    assert text_field(b"", 1) == ""


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05ab", b"\x0a\x02\xff\xff", b"\x0b", b"\xff" * 11, b"\x0d\x00"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ServiceError, match="not a valid message"):
        text_field(data, 1)
