"""The check of a ModelInferRequest against a model's configuration: names, dtypes, shapes, byte lengths, BYTES form.

Pure functions; every fault is an INVALID_ARGUMENT that names the field.
"""

import math
import struct
from typing import Any

import numpy as np

from services.common.contract import Tensor, of_config
from services.common.errors import ServiceError, invalid
from services.common.kserve_limits import check_limits
from services.common.triton import model_config_pb2, triton_to_np_dtype

_TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def check_infer(config: model_config_pb2.ModelConfig, request: Any) -> None:
    """Raise INVALID_ARGUMENT unless `request` is one the model can take."""
    contract = of_config(config)
    raw = len(request.raw_input_contents)
    if raw and raw != len(request.inputs):
        raise invalid("raw_input_contents", f"raw_input_contents has {raw} entries for {len(request.inputs)} inputs")
    names = [tensor.name for tensor in request.inputs]
    required = {tensor.name for tensor in config.input if not tensor.optional}
    if len(set(names)) < len(names) or not required <= set(names) <= contract.inputs.keys():
        raise invalid("inputs", f"inputs are {names}; model '{config.name}' takes {sorted(contract.inputs)}")
    for index, tensor in enumerate(request.inputs):
        field = f"inputs[{index}]"
        _check_shape(field, tensor, contract.inputs[tensor.name], config.max_batch_size)
        content = request.raw_input_contents[index] if raw else None
        _check_contents(field, tensor, content)
        if config.backend != "python":  # a Python model checks its limits itself
            check_limits(config, field, tensor, content)
    if config.max_batch_size and len({tensor.shape[0] for tensor in request.inputs}) > 1:
        raise invalid("inputs", "inputs have different batch sizes (first dimension of shape)")
    for index, output in enumerate(request.outputs):
        if output.name not in contract.outputs:
            known = sorted(contract.outputs)
            raise invalid(f"outputs[{index}].name", f"outputs[{index}].name: '{output.name}' is not among {known}")
        _refuse_shared_memory(f"outputs[{index}]", output)


def _check_shape(field: str, tensor: Any, expected: Tensor, max_batch: int) -> None:
    _refuse_shared_memory(field, tensor)
    if tensor.datatype != expected.datatype:
        raise invalid(
            f"{field}.datatype", f"{field}.datatype is '{tensor.datatype}'; '{tensor.name}' is {expected.datatype}"
        )
    wanted = (-1, *expected.shape) if max_batch else expected.shape
    shape = tuple(tensor.shape)
    if len(shape) != len(wanted) or any(
        size < 1 or want not in (-1, size) for size, want in zip(shape, wanted, strict=False)
    ):
        raise invalid(
            f"{field}.shape", f"{field}.shape is {list(shape)}; '{tensor.name}' takes {list(wanted)}, -1 being any size"
        )
    if max_batch and shape[0] > max_batch:
        raise invalid(f"{field}.shape", f"{field}.shape has batch size {shape[0]}; the limit is {max_batch}")


def _check_contents(field: str, tensor: Any, raw: bytes | None) -> None:
    count = math.prod(tensor.shape)
    typed = {name: values for descriptor, values in tensor.contents.ListFields() for name in (descriptor.name,)}
    if raw is not None:
        if typed:
            raise invalid(f"{field}.contents", f"{field}.contents must be empty where raw_input_contents is used")
        _check_raw(field, tensor.datatype, raw, count)
        return
    expected = _TYPED.get(tensor.datatype)
    if expected is None:
        raise invalid("raw_input_contents", f"{field}: {tensor.datatype} must be sent in raw_input_contents")
    if set(typed) != {expected} or len(typed[expected]) != count:
        sizes = {name: len(values) for name, values in typed.items()}
        raise invalid(f"{field}.contents", f"{field}.contents has {sizes}; its shape needs {count} in {expected}")


def _check_raw(field: str, datatype: str, raw: bytes, count: int) -> None:
    if datatype == "BYTES":
        _check_bytes(field, raw, count)
        return
    size = 2 if datatype == "BF16" else np.dtype(triton_to_np_dtype(datatype)).itemsize
    if len(raw) != count * size:
        raise invalid(
            "raw_input_contents", f"{field}: {len(raw)} bytes of data; its shape and {datatype} need {count * size}"
        )


def _check_bytes(field: str, raw: bytes, count: int) -> None:
    """A BYTES tensor is, for each element, a little-endian uint32 length and so many bytes."""
    position = elements = 0
    while position < len(raw):
        if position + 4 > len(raw):
            raise _malformed(field, elements)
        (size,) = struct.unpack_from("<I", raw, position)
        position += 4 + size
        elements += 1
    if position != len(raw):
        raise _malformed(field, elements - 1)
    if elements != count:
        raise invalid("raw_input_contents", f"{field}: {elements} BYTES elements; its shape needs {count}")


def _malformed(field: str, element: int) -> ServiceError:
    return invalid("raw_input_contents", f"{field}: malformed BYTES tensor at element {element}: length beyond the end")


def _refuse_shared_memory(field: str, tensor: Any) -> None:
    if any(name.startswith("shared_memory") for name in tensor.parameters):
        raise invalid(f"{field}.parameters", f"{field}.parameters: shared memory is not offered; send the data itself")
