"""Tensor data in JSON and as bytes."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Kind, ServiceError
from services.gateway.tensor_json import from_raw, to_raw


@pytest.mark.parametrize(
    ("datatype", "dtype", "values"),
    [
        ("BOOL", "?", [True, False]),
        ("INT8", "i1", [-128, 127]),
        ("UINT8", "u1", [0, 255]),
        ("INT64", "<i8", [-(2**63), 2**63 - 1]),
        ("UINT64", "<u8", [0, 2**64 - 1]),
        ("FP16", "<f2", [0.5, -1]),
        ("FP32", "<f4", [0.1, 3]),
        ("FP64", "<f8", [0.1, -1e300]),
    ],
)
def test_numbers_there_and_back(datatype: str, dtype: str, values: list[object]) -> None:
    raw, shape = to_raw("x", datatype, [values])
    assert raw == np.array(values, dtype).tobytes()
    assert shape == (1, 2)
    written = orjson.loads(orjson.dumps(from_raw("x", datatype, raw), option=orjson.OPT_SERIALIZE_NUMPY))
    assert np.array_equal(np.array(written, dtype), np.array(values, dtype))


@given(st.lists(st.text()))
def test_texts_there_and_back(values: list[str]) -> None:
    raw, shape = to_raw("x", "BYTES", values)
    assert (from_raw("x", "BYTES", raw), shape) == (values, (len(values),))


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", [128]),
        ("INT8", [-129]),
        ("UINT8", [-1]),
        ("INT32", [1.0]),
        ("INT32", [True]),
        ("INT32", ["1"]),
        ("INT32", None),
        ("INT32", {"a": 1}),
        ("INT32", [[1], [2, 3]]),
        ("INT32", [[1], 2]),
        ("INT32", [[[1], [2]], [[3, 4], [5]]]),
        ("BOOL", [1]),
        ("FP32", [1e300]),
        ("FP32", [10**400]),
        ("FP16", [70000]),
        ("FP32", [float("nan")]),
        ("FP32", [None]),
        ("BYTES", [1]),
        ("BYTES", ["\ud800"]),
        ("BYTES", [["a"], ["b", "c"]]),
        ("BF16", [1]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(datatype: str, data: object) -> None:
    with pytest.raises(ServiceError, match=r"inputs\[2\]\.data") as caught:
        to_raw("inputs[2].data", datatype, data)
    assert caught.value.kind is Kind.INVALID_ARGUMENT


def test_what_json_cannot_carry_asks_for_binary() -> None:
    for datatype, raw in (("BF16", b"\0\0"), ("BYTES", b"\1\0\0\0\xff")):
        with pytest.raises(ServiceError, match="binary_data: true"):
            from_raw("x", datatype, raw)


def test_numbers_that_are_not_finite_are_null() -> None:
    raw = np.array([np.inf, np.nan, 1], "<f4").tobytes()
    assert json.loads(orjson.dumps(from_raw("x", "FP32", raw), option=orjson.OPT_SERIALIZE_NUMPY)) == [None, None, 1]


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [40, 900])
def test_nesting_beyond_any_tensor_is_refused(depth: int) -> None:
    with pytest.raises(ServiceError):
        to_raw("x", "INT32", nested(depth))
