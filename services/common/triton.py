"""The Triton client: tensors in, tensors out, over gRPC. The only importer of tritonclient.

Deadlines and cancellation travel on: a cancelled task cancels the call in Triton. Failures arrive as ServiceError.
KServe v2 gRPC: https://github.com/kserve/kserve/blob/master/docs/predict-api/v2/required_api.md
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace import get_current_span
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, np_to_triton_dtype, serialize_byte_tensor, triton_to_np_dtype

from services.common.errors import Kind, ServiceError, from_rpc_error
from services.common.telemetry import inject

__all__ = [
    "TritonClient",
    "channel_options",
    "deserialize_bytes_tensor",
    "model_config_pb2",
    "service_pb2",
    "service_pb2_grpc",
    "triton_to_np_dtype",
]

# What Triton says, as INTERNAL, of a Python stub that is gone or does not answer any more.
_SIGNS_OF_A_DEAD_STUB = ("Stub process", "stub process")
DEAD_STUB = "triton_stub_unavailable"
REFUSAL = "invalid argument: "
"""How the models of `model_repository` begin the message of a refusal: an error in a stream comes without its code.

The metadata `triton_grpc_error: true` would bring the code, but Triton then frees the request while its model still
holds it, and 2.51 dies of that (signal 11); newer ones guard it:
https://github.com/triton-inference-server/server/blob/main/src/grpc/stream_infer_handler.cc
"""
_REFUSALS = (REFUSAL, "invalid value", "parameter keys starting with 'triton_'", "string correlation ID")
"""How refusals begin, Triton's own of a request's parameters among them."""
Tensors = Mapping[str, NDArray[Any]]


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Return the options of every channel that carries tensors."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]


class TritonClient:
    """One connection to one Triton."""

    def __init__(
        self,
        url: str,
        max_message_bytes: int = 64 * 1024 * 1024,
        on_hang: Callable[[str], None] | None = None,
    ) -> None:
        """`url` is host:port of Triton's gRPC interface. `on_hang(why)` hears when it will not recover by itself."""
        self._channel = grpc.aio.insecure_channel(url, options=channel_options(max_message_bytes))
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._away = False
        self._on_hang = on_hang
        self._answered = 0.0  # when an inference last succeeded

    @property
    def stub(self) -> Any:
        """The generated stub. Raises UNAVAILABLE while Triton is away."""
        if self._away:
            raise _unavailable(ServiceError(Kind.UNAVAILABLE, ""))
        return self._stub

    def pause(self) -> None:
        """Send nothing until `resume`: calls fail at once, and a Triton that is starting gets none."""
        self._away = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._channel.close(None)

    async def server_ready(self, timeout: float = 1.0) -> bool:
        """Whether Triton answers and all its models are ready."""
        try:
            reply = await self._stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout)
        except grpc.RpcError:
            return False
        return bool(reply.ready)

    async def resume(self) -> None:
        """Wait until Triton, which is ready, is reached over this connection, then send calls again."""
        await self._stub.ServerReady(service_pb2.ServerReadyRequest(), wait_for_ready=True, timeout=60.0)
        self._away = False

    async def infer(
        self, model: str, inputs: Tensors, outputs: Sequence[str], timeout: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run `model` and return the arrays named in `outputs`.

        `timeout` is in seconds. Raises ServiceError: UNAVAILABLE when Triton is gone, DEADLINE_EXCEEDED, INTERNAL
        when the model failed.
        """
        request = _request(model, inputs, outputs)
        if timeout is not None:
            request.parameters["timeout"].int64_param = max(1, round(timeout * 1e6))
        began = time.monotonic()
        try:
            reply = await self.call("ModelInfer", request, timeout)
        except ServiceError as fault:
            if fault.kind is Kind.DEADLINE_EXCEEDED and self._answered < began:
                self.report_hang(f"Triton has answered nothing for {timeout:g} s")
            raise
        finally:
            request.Clear()  # gRPC's call refers to itself, and would keep the tensors until a garbage collection
        arrays = _arrays(reply)
        reply.Clear()
        return {name: arrays[name] for name in outputs}

    async def stream(
        self, model: str, inputs: Tensors, outputs: Sequence[str], timeout: float | None = None
    ) -> AsyncIterator[dict[str, NDArray[Any]]]:
        """Run a decoupled `model` and yield the arrays of each of its responses.

        Closing the generator cancels the request in Triton. `timeout` is in seconds, for all of it. Raises as `infer`.
        """
        request = _request(model, inputs, outputs)
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        call = self.stub.ModelStreamInfer(timeout=timeout, metadata=tuple(_trace_headers().items()))
        try:
            await call.write(request)
            async for reply in call:
                if reply.error_message:
                    raise self.reported(stream_failure(reply.error_message))
                if reply.infer_response.outputs:
                    self._answered = time.monotonic()
                    yield _arrays(reply.infer_response)
                if reply.infer_response.parameters["triton_final_response"].bool_param:
                    return
            raise _unavailable(ServiceError(Kind.UNAVAILABLE, ""))
        except grpc.RpcError as error:
            raise self.reported(triton_error(error)) from error
        finally:
            call.cancel()

    async def call(self, method: str, request: Any, timeout: float | None) -> Any:
        """Make the unary call `method` as it is and return its reply. `timeout` is in seconds. Raises as `infer`."""
        try:
            reply = await getattr(self.stub, method)(request, timeout=timeout, metadata=tuple(_trace_headers().items()))
        except grpc.RpcError as error:
            raise self.reported(triton_error(error)) from error
        if method == "ModelInfer":
            self._answered = time.monotonic()
        return reply

    def reported(self, fault: ServiceError) -> ServiceError:
        """Return `fault`; where it tells of a stub that will not come back, whoever runs Triton hears of it."""
        if fault.code == DEAD_STUB:
            self.report_hang("a Python stub of Triton does not answer")
        return fault

    def report_hang(self, why: str) -> None:
        """Say that Triton will not recover by itself, and `why`: whoever runs it restarts it."""
        if self._on_hang is not None:
            self._on_hang(why)


def triton_error(error: grpc.RpcError) -> ServiceError:
    """Return what a failed call to Triton means to our caller."""
    return _failure(from_rpc_error(error))


def stream_failure(message: str) -> ServiceError:
    """Return what the error message of a response in a stream means to our caller."""
    return _failure(ServiceError(Kind.INVALID_ARGUMENT if message.startswith(_REFUSALS) else Kind.INTERNAL, message))


def _failure(fault: ServiceError) -> ServiceError:
    fault.message = fault.message.removeprefix(REFUSAL)
    if any(sign in fault.message for sign in _SIGNS_OF_A_DEAD_STUB):
        return _unavailable(fault, DEAD_STUB)
    if fault.kind is Kind.UNAVAILABLE:
        return _unavailable(fault)
    if fault.kind is Kind.INTERNAL:
        fault.message = f"the model failed: {fault.message}"
    return fault


def _trace_headers() -> Mapping[str, str]:
    """Return what goes on of the trace: nothing of one that is not sampled, which Triton would not heed."""
    span = get_current_span().get_span_context()
    return {} if span.is_valid and not span.trace_flags.sampled else inject()


def _unavailable(fault: ServiceError, code: str = "triton_unavailable") -> ServiceError:
    fault.kind = Kind.UNAVAILABLE
    fault.message = "the inference server is not available; it is being restarted"
    fault.code = code
    fault.retry_after = 2.0
    return fault


def _request(model: str, inputs: Tensors, outputs: Sequence[str]) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        request.raw_input_contents.append(_raw(array))
    for name in outputs:
        request.outputs.add(name=name)
    return request


def _arrays(reply: Any) -> dict[str, NDArray[Any]]:
    return {o.name: _array(o, raw) for o, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)}


def _raw(array: NDArray[Any]) -> bytes:
    if array.dtype == np.object_:
        return bytes(serialize_byte_tensor(array).item())
    return np.ascontiguousarray(array).tobytes()


def _array(output: Any, raw: bytes) -> NDArray[Any]:
    if output.datatype == "BYTES":
        return deserialize_bytes_tensor(raw).reshape(output.shape)  # type: ignore[no-any-return]
    return np.frombuffer(raw, dtype=triton_to_np_dtype(output.datatype)).reshape(output.shape)
