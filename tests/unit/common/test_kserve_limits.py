import numpy as np
import pytest
from google.protobuf import text_format

from services.common.errors import Kind, ServiceError
from services.common.kserve_request import check_infer
from services.common.triton import model_config_pb2, service_pb2

ENCODER = """name: "m" platform: "tensorrt_plan" max_batch_size: 4
input [ { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] } ]
output [ { name: "out" data_type: TYPE_FP32 dims: [ 2 ] } ]
parameters { key: "max_sequence_length" value { string_value: "8" } }
parameters { key: "values.ids" value { string_value: "100" } }"""
PICTURES = """name: "m" backend: "onnxruntime" max_batch_size: 4
input [ { name: "ids" data_type: TYPE_INT64 dims: [ -1, -1, 3 ] } ]
parameters { key: "max_side" value { string_value: "64" } }
parameters { key: "max_pixels" value { string_value: "2048" } }
parameters { key: "multiple_of" value { string_value: "32" } }"""


def check(config, array, raw=True):
    made = service_pb2.ModelInferRequest(model_name="m")
    tensor = made.inputs.add(name="ids", datatype="INT64", shape=array.shape)
    if raw:
        made.raw_input_contents.append(array.tobytes())
    else:
        tensor.contents.int64_contents.extend(array.ravel().tolist())
    check_infer(text_format.Parse(config, model_config_pb2.ModelConfig()), made)


def refused(config, array, raw=True):
    with pytest.raises(ServiceError) as caught:
        check(config, array, raw)
    assert caught.value.kind is Kind.INVALID_ARGUMENT
    return f"{caught.value.field} {caught.value.message}"


@pytest.mark.parametrize("raw", [True, False])
def test_values_beyond_the_table_are_refused(raw):
    check(ENCODER, np.array([[0, 99]]), raw)
    for bad in (-1, 100, 2**40):
        assert "inputs[0]: values of 'ids' must be between 0 and 99" in refused(ENCODER, np.array([[0, bad]]), raw)


def test_an_input_that_is_too_long_is_refused():
    check(ENCODER, np.zeros((4, 8), np.int64))
    assert "inputs[0].shape: 9 is too long; 'ids' takes 8" in refused(ENCODER, np.zeros((1, 9), np.int64))


@pytest.mark.parametrize(
    ("sides", "reason"), [((96, 32), "96 is too long"), ((64, 64), "64 x 64 pixels"), ((33, 32), "not multiples of 32")]
)
def test_pictures_keep_their_limits(sides, reason):
    check(PICTURES, np.zeros((1, 64, 32, 3), np.int64))
    assert reason in refused(PICTURES, np.zeros((1, *sides, 3), np.int64))


def test_a_python_model_checks_for_itself():
    check(ENCODER.replace('platform: "tensorrt_plan"', 'backend: "python"'), np.full((1, 99), -1))
