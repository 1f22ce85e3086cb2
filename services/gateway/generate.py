"""Triton's generate extension: a JSON object in, JSON objects out, for models whose tensors are plain values.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.common.contract import datatype
from services.common.errors import ServiceError, invalid
from services.common.kserve import TYPED_ERRORS
from services.common.triton import service_pb2
from services.gateway.backends import Backend, Method
from services.gateway.infer_http import set_parameters
from services.gateway.kserve import PREFIX, STREAM
from services.gateway.schemas.kserve import GenerateRequest
from services.gateway.tensor_json import from_raw, to_raw

INFER = Method(f"{PREFIX}ModelInfer", service_pb2.ModelInferRequest, service_pb2.ModelInferResponse)
STREAM_INFER = Method(STREAM, service_pb2.ModelInferRequest, service_pb2.ModelStreamInferResponse)
_LARGEST = 2**63 - 1


def to_proto(config: Any, version: str, body: GenerateRequest) -> Any:
    """Return the ModelInferRequest of a body, for the model with the ModelConfig `config`. Raises INVALID_ARGUMENT."""
    inputs = {tensor.name: tensor for tensor in config.input}
    request = service_pb2.ModelInferRequest(model_name=config.name, model_version=version, id=body.id)
    for field, name, value in _fields(body):
        tensor = inputs.pop(name, None)
        if tensor is None:
            set_parameters(request.parameters, {name: _parameter(field, value)})
            continue
        raw, shape = to_raw(field, datatype(tensor.data_type), value)
        rank = len(tensor.dims) + (config.max_batch_size > 0)
        if len(shape) > rank:
            raise invalid(field, f"{field} has {len(shape)} dimensions; the input takes up to {rank}")
        request.inputs.add(name=name, datatype=datatype(tensor.data_type), shape=(1,) * (rank - len(shape)) + shape)
        request.raw_input_contents.append(raw)
    for missing in inputs.values():
        if not missing.optional:
            raise invalid(missing.name, f"{missing.name} is required: an input of model '{config.name}'")
    return request


async def run(
    backend: Backend, config: Any, request: Any, timeout: float | None
) -> AsyncGenerator[dict[str, Any], None]:
    """Run a request and yield the JSON object of every response. Raises ServiceError."""
    if not config.model_transaction_policy.decoupled:
        yield _answer(await backend.call(INFER, request, timeout))
        return
    async with aclosing(backend.stream(STREAM_INFER, request, timeout, (TYPED_ERRORS,))) as replies:
        async for reply in replies:
            if reply.infer_response.outputs:
                yield _answer(reply.infer_response)


async def one(answers: AsyncGenerator[dict[str, Any], None], model: str) -> dict[str, Any]:
    """Return the only answer. Raises INVALID_ARGUMENT where there are others."""
    async with aclosing(answers):
        only = await anext(answers, None)
        if only is None or await anext(answers, None) is not None:
            raise invalid("model", f"model '{model}' answers any number of times; use generate_stream")
    return only


class AnswerStream(Response):
    """Sends answers as server-sent events. What fails after the first ends the stream with the error as an event."""

    media_type = "text/event-stream"

    def __init__(self, answers: AsyncGenerator[dict[str, Any], None], first: dict[str, Any] | None) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._answers, self._first = answers, first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        async with aclosing(self._answers):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            last = b""
            try:
                if self._first is not None:
                    await send({"type": "http.response.body", "body": _event(self._first), "more_body": True})
                async for answer in self._answers:
                    await send({"type": "http.response.body", "body": _event(answer), "more_body": True})
            except ServiceError as error:
                last = _event({"error": error.message})
        await send({"type": "http.response.body", "body": last, "more_body": False})


def json_response(answer: Mapping[str, Any]) -> Response:
    """Return the one answer of a request."""
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _fields(body: GenerateRequest) -> Iterator[tuple[str, str, Any]]:
    """Yield each field as (what errors call it, name, value)."""
    for name, value in (body.model_extra or {}).items():
        yield name, name, value
    for name, value in body.parameters.items():
        yield f"parameters.{name}", name, value


def _parameter(field: str, value: Any) -> bool | int | float | str:
    if not isinstance(value, bool | int | float | str) or (isinstance(value, int) and abs(value) > _LARGEST):
        raise invalid(field, f"{field} is no input of the model; a parameter is true or false, a number or a text")
    return value


def _answer(response: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        answer["id"] = response.id
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        values = from_raw(output.name, output.datatype, raw)
        answer[output.name] = values[0] if len(values) == 1 else values
    return answer


def _event(answer: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
