"""KServe v2: calls that name a model go to the service that has it, calls about the server are answered here.

https://github.com/kserve/kserve/blob/master/docs/predict-api/v2/grpc_predict_v2.proto, as Triton extends it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from google.protobuf.message import DecodeError

from services.common.errors import Kind, ServiceError, invalid
from services.common.triton import service_pb2
from services.gateway.access.caller import as_gateway, covered
from services.gateway.backends import ASK_SECONDS, Backend, Method, Request, Response
from services.gateway.directory import REPOSITORY_INDEX, Directory
from services.gateway.forwarding import Requests
from services.gateway.health import GatewayHealth
from services.gateway.version import release
from services.gateway.wire import text_field

PREFIX = "/inference.GRPCInferenceService/"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "parameters",
    "statistics",
)
"""Those of Triton's extensions that a client can use through the gateway."""
STREAM = f"{PREFIX}ModelStreamInfer"
BY_MODEL = frozenset({"ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig"})
NO_LOADING = "models are chosen when the fleet starts: see docs/models.md"
NO_TRACING = "traces leave by OTLP: set OTEL_EXPORTER_OTLP_ENDPOINT for the services"
NO_LOGGING = "the level of logs is set by FLOTILLA_LOG_LEVEL when the fleet starts"
NO_SHARED_MEMORY = "shared memory is not offered; send the tensors themselves"
_REFUSED = {
    "RepositoryModelLoad": NO_LOADING,
    "RepositoryModelUnload": NO_LOADING,
    "TraceSetting": NO_TRACING,
    "LogSettings": NO_LOGGING,
    **{
        f"{kind}SharedMemory{what}": NO_SHARED_MEMORY
        for kind in ("System", "Cuda")
        for what in ("Status", "Register", "Unregister")
    },
}
STATISTICS = Method(f"{PREFIX}ModelStatistics", service_pb2.ModelStatisticsRequest, service_pb2.ModelStatisticsResponse)


class KServe:
    """What of KServe is the gateway's own work."""

    def __init__(self, health: GatewayHealth, directory: Directory) -> None:
        self._health, self.directory, self._release = health, directory, release()
        self._answers: dict[str, Callable[[bytes], Awaitable[Any]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._metadata,
            "RepositoryIndex": self._index,
        }

    async def route(self, method: str, requests: Requests) -> Backend | bytes:
        """Return the service that has the model which the call names, or the answer to a call that names none.

        `method` is a plain name ("ModelInfer"). Raises NOT_FOUND, UNIMPLEMENTED, INVALID_ARGUMENT.
        """
        first = await requests.first() or b""
        if answer := self._answers.get(method):
            return cast(bytes, (await answer(first)).SerializeToString())
        name = text_field(first, 1)  # in every KServe request that names a model
        if method == "ModelStatistics" and not name:
            request = _parse(service_pb2.ModelStatisticsRequest, first)
            return cast(bytes, (await self.statistics(request)).SerializeToString())
        if method != "ModelReady":
            return await self.directory.backend_of(name)
        backend = await self.directory.backend_of(name, patience=0)
        if backend.holds and not backend.serving:  # the question is not held: it must not start the service
            return cast(bytes, service_pb2.ModelReadyResponse(ready=False).SerializeToString())
        return backend

    def serves(self, method: str) -> bool:
        """Whether the gateway passes `method` on or answers it. Raises UNIMPLEMENTED for what Triton alone does."""
        if why := _REFUSED.get(method):
            raise ServiceError(Kind.UNIMPLEMENTED, f"{PREFIX}{method} is not served here: {why}", code="not_served")
        return method in BY_MODEL or method in self._answers or method == "ModelStatistics"

    def metadata(self) -> Any:
        """Return the ServerMetadataResponse: what clients talk to is the gateway."""
        return service_pb2.ServerMetadataResponse(name="flotilla", version=self._release, extensions=EXTENSIONS)

    async def index(self, request: Any, timeout: float | None = None) -> Any:
        """Return the RepositoryIndexResponse of all services that answer within `timeout` seconds.

        Here and in `statistics` are only models that the caller may use.
        """
        replies = await self._ask_all(REPOSITORY_INDEX, request, timeout)
        models = [model for reply in replies for model in reply.models if await covered(model.name)]
        return service_pb2.RepositoryIndexResponse(models=models)

    async def statistics(self, request: Any) -> Any:
        """Return the ModelStatisticsResponse of the model that is named, or of all services that answer."""
        if request.name:
            backend = await self.directory.backend_of(request.name)
            return await backend.call(STATISTICS, request)
        replies = await self._ask_all(STATISTICS, request)
        rows = [row for reply in replies for row in reply.model_stats if await covered(row.name)]
        return service_pb2.ModelStatisticsResponse(model_stats=rows)

    async def _live(self, _: bytes) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    async def _ready(self, _: bytes) -> Any:
        return service_pb2.ServerReadyResponse(ready=self._health.ready)

    async def _metadata(self, _: bytes) -> Any:
        return self.metadata()

    async def _index(self, raw: bytes) -> Any:
        return await self.index(_parse(service_pb2.RepositoryIndexRequest, raw))

    async def _ask_all(
        self, method: Method[Request, Response], request: Request, timeout: float | None = None
    ) -> list[Response]:
        backends = [service.backend for service in self._health.fleet.services if service.backend.serving]
        calls = [backend.call(method, request, timeout or ASK_SECONDS) for backend in backends]
        with as_gateway():
            replies = await asyncio.gather(*calls, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException) and not isinstance(reply, ServiceError):
                raise reply
        return [reply for reply in replies if not isinstance(reply, BaseException)]


def _parse(message: Callable[[], Any], raw: bytes) -> Any:
    parsed = message()
    try:
        parsed.ParseFromString(raw)
    except DecodeError as error:
        raise invalid(None, f"the request is not a valid message: {error}") from None
    return parsed
