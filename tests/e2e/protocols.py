"""One request through every protocol of the gateway, and what came of it: an answer, or the kind of the error."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
from numpy.typing import NDArray

from services.common.errors import TABLE, Kind, from_rpc_error
from services.common.triton import service_pb2, service_pb2_grpc
from tools.fleet.private import PrivateFleet

_DTYPES = {"INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8, "FP32": np.float32}
Tensors = dict[str, tuple[str, Any]]
"""By name: the datatype, and an array, or for BYTES a list of texts."""


class RefusalError(Exception):
    """A refusal over HTTP."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.text)
        self.kind = next(kind for kind, row in TABLE.items() if row.http == response.status_code)


@dataclass
class Protocols:
    """A client of each."""

    http: httpx.Client
    grpc: grpc.Channel

    def post(self, path: str, body: Any) -> Any:
        """Send JSON; return JSON. Raises RefusalError."""
        return self.checked(self.http.post(path, json=body)).json()

    def checked(self, response: httpx.Response) -> httpx.Response:
        """Raises RefusalError for anything but a 200."""
        if response.status_code != 200:
            raise RefusalError(response)
        return response

    def infer_http(self, model: str, tensors: Tensors, output: str) -> NDArray[Any]:
        """KServe over HTTP, with binary tensors but for texts."""
        inputs, tail = [], b""
        for name, (datatype, value) in tensors.items():
            row: dict[str, Any] = {"name": name, "datatype": datatype}
            if datatype == "BYTES":
                row |= {"shape": [len(value), 1], "data": value}
            else:
                tail += value.tobytes()
                row |= {"shape": list(value.shape), "parameters": {"binary_data_size": value.nbytes}}
            inputs.append(row)
        head = json.dumps({"inputs": inputs, "outputs": [{"name": output}]}).encode()
        length = {"inference-header-content-length": str(len(head))}
        response = self.http.post(f"/v2/models/{model}/infer", content=head + tail, headers=length)
        (found,) = self.checked(response).json()["outputs"]
        return np.array(found["data"], _DTYPES[found["datatype"]]).reshape(found["shape"])

    def infer_grpc(self, model: str, tensors: Tensors, output: str) -> NDArray[Any]:
        """KServe over gRPC."""
        reply = self._triton.ModelInfer(_message(model, tensors, output))
        return np.frombuffer(reply.raw_output_contents[0], _DTYPES[reply.outputs[0].datatype]).reshape(
            reply.outputs[0].shape
        )

    def stream_grpc(self, model: str, tensors: Tensors, output: str) -> list[int]:
        """KServe's stream over gRPC: the numbers of all answers together."""
        found: list[int] = []
        for reply in self._triton.ModelStreamInfer(iter([_message(model, tensors, output)])):
            assert not reply.error_message, reply.error_message
            for row, raw in zip(reply.infer_response.outputs, reply.infer_response.raw_output_contents, strict=True):
                if row.name == output:
                    found += np.frombuffer(raw, _DTYPES[row.datatype]).tolist()
        return found

    @property
    def _triton(self) -> service_pb2_grpc.GRPCInferenceServiceStub:
        return service_pb2_grpc.GRPCInferenceServiceStub(self.grpc)


@contextmanager
def protocols(fleet: PrivateFleet) -> Iterator[Protocols]:
    """Clients of the gateway of a fleet."""
    with (
        httpx.Client(base_url=fleet.url, trust_env=False, timeout=120) as http,
        grpc.insecure_channel(f"127.0.0.1:{fleet.process('gateway').grpc_port}") as channel,
    ):
        yield Protocols(http, channel)


def outcome(call: Callable[[], Any]) -> Any:
    """What `call` returns, or the kind of the error it raises."""
    try:
        return call()
    except RefusalError as error:
        return error.kind
    except grpc.RpcError as error:
        return from_rpc_error(error).kind


def kinds(outcomes: dict[str, Any]) -> set[Kind | None]:
    """The kinds of errors, None for answers."""
    return {found if isinstance(found, Kind) else None for found in outcomes.values()}


def _message(model: str, tensors: Tensors, output: str) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, outputs=[{"name": output}])
    for name, (datatype, value) in tensors.items():
        shape = [len(value), 1] if datatype == "BYTES" else value.shape
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(_texts(value) if datatype == "BYTES" else value.tobytes())
    return request


def _texts(values: Sequence[str]) -> bytes:
    return b"".join(len(value.encode()).to_bytes(4, "little") + value.encode() for value in values)
