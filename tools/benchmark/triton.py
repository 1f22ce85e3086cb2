"""A service's own Triton: where it listens and requests for it in bytes."""

from collections.abc import Mapping
from typing import Any

import psutil
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from services.common.triton import service_pb2
from tools.cli.console import Problem

INFER = "/inference.GRPCInferenceService/ModelInfer"


def triton_address(service_pid: int | None) -> str:
    """Return the loopback address of the Triton a service has started."""
    for child in psutil.Process(service_pid).children(recursive=True):
        for argument in child.cmdline():
            if argument.startswith("--grpc-port="):
                return f"127.0.0.1:{argument.partition('=')[2]}"
    raise Problem("the service runs no Triton of its own", "unset FLOTILLA_<SERVICE>_TRITON_URL")


def infer_request(name: str, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a ModelInfer request for the model `name`."""
    request = service_pb2.ModelInferRequest(model_name=name)
    for key, array in tensors.items():
        request.inputs.add(name=key, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    serialised: bytes = request.SerializeToString()
    return serialised
