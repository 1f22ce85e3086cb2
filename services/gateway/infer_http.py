"""ModelInfer over HTTP: JSON, followed by binary tensors where they are used, to and from the messages of gRPC.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import asyncio
import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from starlette.responses import Response

from services.common.errors import invalid
from services.common.triton import service_pb2
from services.gateway.schemas.kserve import InferInput, InferRequest, Parameters
from services.gateway.tensor_json import from_raw, to_raw

BINARY_SIZE, BINARY, BINARY_DEFAULT = "binary_data_size", "binary_data", "binary_data_output"
HEADER_LENGTH = "inference-header-content-length"
IN_A_THREAD_FROM = 64 * 1024  # elements or bytes


async def to_proto(model: str, version: str, body: InferRequest) -> Any:
    """Return the ModelInferRequest of a body. Raises INVALID_ARGUMENT."""
    _flag(f"parameters.{BINARY_DEFAULT}", body.parameters.get(BINARY_DEFAULT, False))
    elements = sum(math.prod(tensor.shape) for tensor in body.inputs if tensor.data is not None)
    if elements < IN_A_THREAD_FROM:
        return _to_proto(model, version, body)
    return await asyncio.to_thread(_to_proto, model, version, body)


async def respond(body: InferRequest, reply: Any) -> Response:
    """Return the answer to `body` with the tensors of a ModelInferResponse. Raises INVALID_ARGUMENT."""
    if sum(map(len, reply.raw_output_contents)) < IN_A_THREAD_FROM:
        header, tensors = _to_body(body, reply)
    else:
        header, tensors = await asyncio.to_thread(_to_body, body, reply)
    if not tensors:
        return Response(header, media_type="application/json")
    return Response(
        b"".join([header, *tensors]),
        headers={HEADER_LENGTH: str(len(header))},
        media_type="application/octet-stream",
    )


def _to_proto(model: str, version: str, body: InferRequest) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=body.id)
    set_parameters(request.parameters, {key: body.parameters[key] for key in body.parameters.keys() - {BINARY_DEFAULT}})
    position, binary = 0, body.binary
    for index, tensor in enumerate(body.inputs):
        _refuse_shared_memory(f"inputs[{index}]", tensor.parameters)
        added = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        size = _binary_size(f"inputs[{index}]", tensor)
        set_parameters(
            added.parameters, {key: tensor.parameters[key] for key in tensor.parameters.keys() - {BINARY_SIZE}}
        )
        if size is None:
            request.raw_input_contents.append(to_raw(f"inputs[{index}].data", tensor.datatype, tensor.data)[0])
        else:
            request.raw_input_contents.append(binary[position : position + size])
            position += size
    if position != len(binary):
        raise invalid("inputs", f"the inputs' {BINARY_SIZE} add up to {position}; {len(binary)} bytes follow the JSON")
    for index, output in enumerate(body.outputs):
        _refuse_shared_memory(f"outputs[{index}]", output.parameters)
        asked = request.outputs.add(name=output.name)
        _flag(f"outputs[{index}].parameters.{BINARY}", output.parameters.get(BINARY, False))
        set_parameters(asked.parameters, {key: output.parameters[key] for key in output.parameters.keys() - {BINARY}})
    return request


def _to_body(body: InferRequest, response: Any) -> tuple[bytes, list[bytes]]:
    """Return the JSON and the tensors that follow it."""
    default = bool(body.parameters.get(BINARY_DEFAULT, False))
    asked = {output.name: bool(output.parameters.get(BINARY, default)) for output in body.outputs}
    tensors: list[bytes] = []
    answer: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        answer["id"] = response.id
    if response.parameters:
        answer["parameters"] = _parameters(response.parameters)
    answer["outputs"] = []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        row: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters = _parameters(output.parameters)
        if asked.get(output.name, default):
            parameters[BINARY_SIZE] = len(raw)
            tensors.append(raw)
        else:
            row["data"] = from_raw(output.name, output.datatype, raw)
        if parameters:
            row["parameters"] = parameters
        answer["outputs"].append(row)
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), tensors


def set_parameters(target: Any, parameters: Mapping[str, Any]) -> None:
    """Put `parameters` (true or false, integers, numbers, texts) into a map of InferParameter."""
    for key, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param"}.get(type(value), "string_param")
        setattr(target[key], kind, value)


def _parameters(parameters: Any) -> Parameters:
    return dict(_values(parameters))


def _values(parameters: Any) -> Iterator[tuple[str, Any]]:
    for key, value in parameters.items():
        chosen = value.WhichOneof("parameter_choice")
        if chosen is not None:
            yield key, getattr(value, chosen)


def _binary_size(field: str, tensor: InferInput) -> int | None:
    size = tensor.parameters.get(BINARY_SIZE)
    if size is None:
        if tensor.data is None:
            raise invalid(f"{field}.data", f"{field}.data is required, or the parameter {BINARY_SIZE}")
        return None
    if tensor.data is not None:
        raise invalid(f"{field}.data", f"{field}.data must not be given beside the parameter {BINARY_SIZE}")
    if type(size) is not int or size < 0:
        name = f"{field}.parameters.{BINARY_SIZE}"
        raise invalid(name, f"{name} must be a number of bytes")
    return size


def _refuse_shared_memory(field: str, parameters: Parameters) -> None:
    if any(name.startswith("shared_memory") for name in parameters):
        raise invalid(
            f"{field}.parameters", f"{field}.parameters: shared memory is not offered; send tensors as binary data"
        )


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid(name, f"{name} must be true or false")
    return value
