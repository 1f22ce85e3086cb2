"""Tensor data in JSON and as bytes: https://github.com/kserve/open-inference-protocol, "Tensor Data".

Pure functions. It must not know any request.
"""

import struct
from typing import Any

import numpy as np

from services.common.errors import ServiceError, invalid
from services.common.triton import deserialize_bytes_tensor

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_ACCEPTED: dict[str, tuple[set[type], str]] = {
    "b": ({bool}, "true or false"),
    "i": ({int}, "integers"),
    "u": ({int}, "integers"),
    "f": ({int, float}, "numbers"),
}


def to_raw(field: str, datatype: str, data: Any) -> tuple[bytes, tuple[int, ...]]:
    """Return the little-endian, row-major bytes of `data` and the shape its lists have.

    `data` is a value, or a list of values, flat or nested. Raises INVALID_ARGUMENT that names `field`.
    """
    if datatype == "BYTES":
        elements = _array(field, data)
        return _bytes_tensor(field, elements.ravel().tolist()), elements.shape
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise invalid(field, f"{field} cannot be given in JSON for {datatype}; send the tensor as binary data")
    elements = _array(field, data)
    values = elements.ravel().tolist()
    types, names = _ACCEPTED[dtype.kind]
    if not set(map(type, values)) <= types:
        raise invalid(field, f"{field} must hold {names} for {datatype}, in lists of equal lengths")
    return _numbers(field, datatype, dtype, values).tobytes(), elements.shape


def from_raw(name: str, datatype: str, raw: bytes) -> Any:
    """Return the elements of the output `name`, flat, as something orjson writes. Numbers that are not finite are null.

    Raises INVALID_ARGUMENT for what JSON cannot carry.
    """
    if datatype == "BYTES":
        try:
            return [element.decode() for element in deserialize_bytes_tensor(raw)]
        except UnicodeDecodeError:
            raise _binary_only(name, "has bytes that are not UTF-8") from None
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise _binary_only(name, f"is {datatype}, which JSON cannot carry")
    values = np.frombuffer(raw, dtype)
    return values.astype("<f4") if datatype == "FP16" else values


def _array(field: str, data: Any) -> np.ndarray[Any, np.dtype[Any]]:
    try:
        return np.array(data, dtype=object)
    except (ValueError, RecursionError):
        raise invalid(field, f"{field} must be a list of values, or lists of equal lengths") from None


def _numbers(field: str, datatype: str, dtype: "np.dtype[Any]", values: list[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    if dtype.kind in "iu" and values:
        limits = np.iinfo(dtype)
        if min(values) < limits.min or max(values) > limits.max:
            raise invalid(field, f"{field} has a value outside {datatype} ({limits.min} to {limits.max})")
    try:
        with np.errstate(over="ignore"):
            numbers = np.array(values, dtype)
    except OverflowError:
        raise _not_finite(field, datatype) from None
    if dtype.kind == "f" and not np.isfinite(numbers).all():
        raise _not_finite(field, datatype)
    return numbers


def _bytes_tensor(field: str, values: list[Any]) -> bytes:
    """Return each text as its length in four bytes and its UTF-8."""
    parts: list[bytes] = []
    for value in values:
        if not isinstance(value, str):
            raise invalid(field, f"{field} must hold strings for BYTES, in lists of equal lengths")
        try:
            text = value.encode()
        except UnicodeEncodeError:
            raise invalid(field, f"{field} is not valid Unicode: it has a lone surrogate") from None
        parts += (struct.pack("<I", len(text)), text)
    return b"".join(parts)


def _not_finite(field: str, datatype: str) -> ServiceError:
    return invalid(field, f"{field} must hold finite numbers within {datatype}")


def _binary_only(name: str, why: str) -> ServiceError:
    return invalid("outputs", f"output '{name}' {why}; ask for it with the parameter binary_data: true")
