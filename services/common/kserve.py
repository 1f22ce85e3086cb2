"""Raw KServe v2 (`inference.GRPCInferenceService`) on a service's own port: checked, admitted, forwarded to Triton.

A malformed tensor can kill Triton's Python stub, so nothing unchecked gets through.
https://github.com/triton-inference-server/common/blob/main/protobuf/grpc_service.proto
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, NoReturn

import grpc

from services.common.admission import Admission
from services.common.errors import Kind, ServiceError
from services.common.health import Health
from services.common.kserve_request import check_infer
from services.common.telemetry import inject
from services.common.triton import (
    TritonClient,
    model_config_pb2,
    service_pb2,
    service_pb2_grpc,
    stream_failure,
    triton_error,
)

SERVICE_NAME = "inference.GRPCInferenceService"
TYPED_ERRORS = ("triton_grpc_error", "true")  # metadata of a stream that is to end with the status of its first error
Context = grpc.aio.ServicerContext[Any, Any]
Cost = Callable[[Any], float]


class KServe(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The KServe v2 face of one service."""

    def __init__(
        self,
        triton: TritonClient,
        configs: Mapping[str, model_config_pb2.ModelConfig],
        admission: Admission,
        health: Health,
        cost: Cost,
    ) -> None:
        """`cost(request)` is what a ModelInferRequest costs, in the unit of the service's load."""
        self._triton, self._configs, self._admission = triton, configs, admission
        self._health, self._cost = health, cost
        self._mixed = len({config.model_transaction_policy.decoupled for config in configs.values()}) > 1

    async def ServerLive(self, request: Any, context: Context) -> Any:
        """Whether the process works."""
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Context) -> Any:
        """Whether new work is welcome."""
        return service_pb2.ServerReadyResponse(ready=self._health.ready)

    async def ModelReady(self, request: Any, context: Context) -> Any:
        """Whether a model can be used now."""
        self._known(request.name, request.version)
        return service_pb2.ModelReadyResponse(ready=self._health.ready)

    async def ServerMetadata(self, request: Any, context: Context) -> Any:
        """Triton's name, version and extensions."""
        return await self._forward("ServerMetadata", request, context)

    async def ModelMetadata(self, request: Any, context: Context) -> Any:
        """Tensor names, dtypes and shapes of a model."""
        self._known(request.name, request.version)
        return await self._forward("ModelMetadata", request, context)

    async def ModelConfig(self, request: Any, context: Context) -> Any:
        """The model configuration in use."""
        self._known(request.name, request.version)
        return await self._forward("ModelConfig", request, context)

    async def ModelStatistics(self, request: Any, context: Context) -> Any:
        """Triton's statistics of one model, or of all."""
        if request.name:
            self._known(request.name, request.version)
        return await self._forward("ModelStatistics", request, context)

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:
        """The models of this service and their states."""
        return await self._forward("RepositoryIndex", request, context)

    async def ModelInfer(self, request: Any, context: Context) -> Any:
        """Run one inference."""
        self._check(request)
        async with self._admission.admit_call(self._cost(request), context):
            return await self._forward("ModelInfer", request, context)

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        """Run inferences on one stream; a bad request gets an error message of its own and the stream goes on.

        With the metadata `triton_grpc_error: true` it ends the stream with its status, as in Triton, which never sees
        that metadata: it dies of it. So it does of decoupled models and others on one stream, whose answers it writes
        at once: where a service has both, requests to the others go by ModelInfer, one after the other.
        """
        remaining = context.time_remaining()
        typed = TYPED_ERRORS in {(key, value) for key, value in context.invocation_metadata() or ()}
        async with self._admission.admit_call(1.0, context):
            answers: asyncio.Queue[Any] = asyncio.Queue(maxsize=64)
            stream = self._triton.stub.ModelStreamInfer(timeout=remaining, metadata=tuple(inject().items()))
            requests = self._sorted_out(request_iterator, context, answers, typed)
            feeding = asyncio.create_task(_reporting(_feed(requests, stream), answers))
            reading = asyncio.create_task(_reporting(self._read(stream, answers, typed), answers))
            try:
                while (answer := await answers.get()) is not None:
                    if isinstance(answer, BaseException):
                        raise answer
                    yield answer
            finally:
                feeding.cancel()
                reading.cancel()
                stream.cancel()

    async def _sorted_out(
        self, requests: AsyncIterator[Any], context: Context, answers: "asyncio.Queue[Any]", typed: bool
    ) -> AsyncIterator[Any]:
        """Yield those that go on Triton's stream; answer bad ones, and those that must not be on it."""
        async for request in requests:
            try:
                self._check(request)
                if not self._mixed or self._configs[request.model_name].model_transaction_policy.decoupled:
                    yield request
                    continue
                reply = await self._forward("ModelInfer", request, context)
            except ServiceError as error:
                if typed:
                    raise
                answer = service_pb2.ModelStreamInferResponse(error_message=error.message)
                answer.infer_response.id = request.id
            else:
                reply.parameters["triton_final_response"].bool_param = True
                answer = service_pb2.ModelStreamInferResponse(infer_response=reply)
            await answers.put(answer)

    async def _read(self, stream: Any, answers: "asyncio.Queue[Any]", typed: bool) -> None:
        async for response in stream:
            if response.error_message:
                error = self._triton.reported(stream_failure(response.error_message))
                if typed:
                    raise error
                response.error_message = error.message
            await answers.put(response)
        await answers.put(None)

    def _check(self, request: Any) -> None:
        check_infer(self._known(request.model_name, request.model_version), request)

    def _known(self, name: str, version: str) -> model_config_pb2.ModelConfig:
        config = self._configs.get(name)
        if config is None or version not in ("", "1"):
            what = f"model '{name}'" if config is None else f"version '{version}' of model '{name}'"
            raise ServiceError(
                Kind.NOT_FOUND,
                f"{what} does not exist; loaded: {', '.join(sorted(self._configs))}",
                field="model_name",
                code="model_not_found",
            )
        return config

    async def _forward(self, method: str, request: Any, context: Context) -> Any:
        return await self._triton.call(method, request, context.time_remaining())

    async def _refuse(self, request: Any, context: Context) -> NoReturn:
        raise ServiceError(
            Kind.UNIMPLEMENTED,
            "models, logs, traces and shared memory of a Flotilla service are not managed over KServe; "
            "see `tools/models` and the service's settings",
        )

    RepositoryModelLoad = RepositoryModelUnload = _refuse
    SystemSharedMemoryStatus = SystemSharedMemoryRegister = SystemSharedMemoryUnregister = _refuse
    CudaSharedMemoryStatus = CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _refuse
    TraceSetting = LogSettings = _refuse


async def _feed(requests: AsyncIterator[Any], stream: Any) -> None:
    async for request in requests:
        await stream.write(request)
    await stream.done_writing()


async def _reporting(work: Coroutine[Any, Any, None], answers: "asyncio.Queue[Any]") -> None:
    """Do `work`; what it fails with ends the stream."""
    try:
        await work
    except grpc.RpcError as error:
        await answers.put(triton_error(error))
    except asyncio.InvalidStateError:
        pass  # Triton has ended the stream: the reader learns why
    except Exception as error:
        await answers.put(error)
