"""The limits of raw KServe tensors for models with no code of ours before them: plans, and graphs on Triton's backends.

The parameters of a configuration are those that the Python models look at themselves: max_sequence_length, max_side,
max_pixels, multiple_of, for the free axes of an input; and "values.<input>", how many values an input of whole numbers
has, from 0 on: an engine looks them up in a table, and one beyond it would read foreign memory.
"""

import math
from typing import Any

import numpy as np

from services.common.errors import invalid
from services.common.triton import model_config_pb2, triton_to_np_dtype

_WHOLE = {"INT32": "int_contents", "INT64": "int64_contents"}


def check_limits(config: model_config_pb2.ModelConfig, field: str, tensor: Any, raw: bytes | None) -> None:
    """Raise INVALID_ARGUMENT unless an input, whose shape and length are those of the contract, keeps the limits.

    `raw` is its part of raw_input_contents, None where the tensor has contents of its own.
    """
    limits = {key: int(value.string_value) for key, value in config.parameters.items() if _is_limit(key)}
    dims = next(list(known.dims) for known in config.input if known.name == tensor.name)
    free = [size for size, dim in zip(tensor.shape[-len(dims) :], dims, strict=True) if dim == -1]
    longest = min(limits.get("max_sequence_length", math.inf), limits.get("max_side", math.inf))
    if free and max(free) > longest:
        raise invalid(f"{field}.shape", f"{field}.shape: {max(free)} is too long; '{tensor.name}' takes {longest}")
    if len(free) > 1 and math.prod(free) > limits.get("max_pixels", math.inf):
        size = " x ".join(map(str, free))
        raise invalid(f"{field}.shape", f"{field}.shape: {size} pixels are more than {limits['max_pixels']}")
    step = limits.get("multiple_of", 1)
    if any(size % step for size in free):
        raise invalid(f"{field}.shape", f"{field}.shape: {free} are not multiples of {step}")
    if (count := limits.get(f"values.{tensor.name}")) is not None:
        _check_values(field, tensor, raw, count)


def _is_limit(key: str) -> bool:
    return key in ("max_sequence_length", "max_side", "max_pixels", "multiple_of") or key.startswith("values.")


def _check_values(field: str, tensor: Any, raw: bytes | None, count: int) -> None:
    if raw is not None:
        values = np.frombuffer(raw, triton_to_np_dtype(tensor.datatype))
    else:
        values = np.array(getattr(tensor.contents, _WHOLE[tensor.datatype]))
    if values.min() < 0 or values.max() >= count:
        raise invalid(field, f"{field}: values of '{tensor.name}' must be between 0 and {count - 1}")
