import struct

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Kind, ServiceError
from services.common.kserve_request import check_infer
from services.common.triton import model_config_pb2, service_pb2

CONFIG = text_format.Parse(
    """
    name: "m" max_batch_size: 4
    input { name: "text" data_type: TYPE_STRING dims: [ 1 ] }
    output { name: "out" data_type: TYPE_FP32 dims: [ 2 ] }
    """,
    model_config_pb2.ModelConfig(),
)


def request(raw, rows):
    made = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[raw])
    made.inputs.add(name="text", datatype="BYTES", shape=(rows, 1))
    return made


def encode(texts):
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4))
def test_well_formed_bytes_pass(texts):
    check_infer(CONFIG, request(encode(texts), len(texts)))


@given(st.binary(max_size=40), st.integers(1, 4))
def test_whatever_passes_decodes_to_so_many_elements(raw, rows):
    try:
        check_infer(CONFIG, request(raw, rows))
    except ServiceError as error:
        assert error.kind is Kind.INVALID_ARGUMENT
        assert error.field
        return
    elements, position = 0, 0
    while position < len(raw):
        position += 4 + struct.unpack_from("<I", raw, position)[0]
        elements += 1
    assert (elements, position) == (rows, len(raw))


@pytest.mark.parametrize("texts", [[], [b"a"] * 5])
def test_the_batch_size_is_limited(texts):
    with pytest.raises(ServiceError) as caught:
        check_infer(CONFIG, request(encode(texts), len(texts)))
    assert caught.value.field == "inputs[0].shape"


def test_inputs_that_are_optional_may_be_left_out_and_no_others():
    config = model_config_pb2.ModelConfig(name="m")
    for name, optional in (("text", False), ("flag", True)):
        config.input.add(name=name, data_type=model_config_pb2.TYPE_UINT8, dims=[1], optional=optional)

    def check(*names):
        made = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"1"] * len(names))
        for name in names:
            made.inputs.add(name=name, datatype="UINT8", shape=[1])
        check_infer(config, made)

    check("text")
    check("flag", "text")
    for wrong in ((), ("flag",), ("text", "other"), ("text", "text")):
        with pytest.raises(ServiceError) as caught:
            check(*wrong)
        assert caught.value.field == "inputs"
