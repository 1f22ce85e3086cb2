"""KServe v2 over HTTP, as Triton serves it: `/v2`."""

import functools
import inspect
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response

from services.common.errors import Kind, ServiceError
from services.common.triton import service_pb2
from services.gateway import generate, infer_http
from services.gateway.backends import Backend, Method
from services.gateway.directory import Directory
from services.gateway.errors import EVENT_STREAM
from services.gateway.health import GatewayHealth
from services.gateway.kserve import NO_LOADING, NO_LOGGING, NO_SHARED_MEMORY, NO_TRACING, PREFIX, KServe
from services.gateway.kserve_route import KSERVE_RESPONSES, kserve_route
from services.gateway.message_json import as_json
from services.gateway.schemas.common import TimeoutMs, seconds
from services.gateway.schemas.kserve import (
    GenerateRequest,
    InferRequest,
    KServeError,
    ModelReady,
    RepositoryIndexRequest,
)

_CONFIG = Method(f"{PREFIX}ModelConfig", service_pb2.ModelConfigRequest, service_pb2.ModelConfigResponse)
_METADATA = Method(f"{PREFIX}ModelMetadata", service_pb2.ModelMetadataRequest, service_pb2.ModelMetadataResponse)
_READY = Method(f"{PREFIX}ModelReady", service_pb2.ModelReadyRequest, service_pb2.ModelReadyResponse)
Responses = dict[int | str, dict[str, Any]]
Model = Annotated[str, Path(description="Its name in Triton; POST /v2/repository/index lists them.")]
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_STREAMED: Responses = {200: {"content": EVENT_STREAM}, **KSERVE_RESPONSES}
_REFUSED = {
    "/v2/repository/models/{model}/{action}": NO_LOADING,
    "/v2/trace/setting": NO_TRACING,
    "/v2/models/{model}/trace/setting": NO_TRACING,
    "/v2/logging": NO_LOGGING,
    "/v2/systemsharedmemory/{rest:path}": NO_SHARED_MEMORY,
    "/v2/cudasharedmemory/{rest:path}": NO_SHARED_MEMORY,
}


def create_router(kserve: KServe, directory: Directory, health: GatewayHealth, body_limit: int) -> APIRouter:
    """Return the routes over every service of `directory`; `body_limit` is in bytes, for bodies that come packed."""
    router = APIRouter(route_class=kserve_route(body_limit), tags=["kserve"])
    _add_server(router, kserve)
    _add_models(router, directory, health)
    _add_inference(router, directory)
    for path, why in _REFUSED.items():
        _refuse(router, path, why)
    return router


def _get(router: APIRouter, path: str, endpoint: Any, responses: Responses = KSERVE_RESPONSES) -> None:
    router.add_api_route(path, endpoint, methods=["GET"], route_class_override=APIRoute, responses=responses)


def _get_of_model(router: APIRouter, suffix: str, endpoint: Any, responses: Responses = KSERVE_RESPONSES) -> None:
    """Add a question about a model, and about a version of it."""
    _get(router, f"/v2/models/{{model}}{suffix}", _without_version(endpoint), responses)
    _get(router, f"/v2/models/{{model}}/versions/{{version}}{suffix}", endpoint, responses)


def _post_to_model(router: APIRouter, suffix: str, endpoint: Any, **documented: Any) -> None:
    """Add a request to a model, and to a version of it."""
    options = {"responses": KSERVE_RESPONSES, **documented}
    router.post(f"/v2/models/{{model}}{suffix}", **options)(_without_version(endpoint))
    router.post(f"/v2/models/{{model}}/versions/{{version}}{suffix}", **options)(endpoint)


def _without_version(endpoint: Any) -> Any:
    """Return the handler as one without the parameter `version`, which would be taken for one of the query."""

    @functools.wraps(endpoint)
    async def handle(**given: Any) -> Any:
        return await endpoint(**given)

    signature = inspect.signature(endpoint)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "version"]
    cast(Any, handle).__signature__ = signature.replace(parameters=parameters)
    return handle


def _add_server(router: APIRouter, kserve: KServe) -> None:
    async def server_metadata() -> Response:
        """Name, version and extensions of the server."""
        return JSONResponse(as_json(kserve.metadata()))

    async def statistics() -> Response:
        """Triton's statistics of every model."""
        return JSONResponse(as_json(await kserve.statistics(service_pb2.ModelStatisticsRequest())))

    async def model_statistics(model: Model, version: str = "") -> Response:
        """Triton's statistics of one model."""
        request = service_pb2.ModelStatisticsRequest(name=model, version=version)
        return JSONResponse(as_json(await kserve.statistics(request)))

    @router.post("/v2/repository/index", responses=KSERVE_RESPONSES)
    async def repository_index(body: RepositoryIndexRequest, timeout_ms: TimeoutMs = None) -> Response:
        """List the models of every service."""
        reply = await kserve.index(service_pb2.RepositoryIndexRequest(ready=body.ready), seconds(timeout_ms))
        return JSONResponse([as_json(model) for model in reply.models])

    _get(router, "/v2", server_metadata)
    _get(router, "/v2/models/stats", statistics)
    _get_of_model(router, "/stats", model_statistics)


def _add_models(router: APIRouter, directory: Directory, health: GatewayHealth) -> None:
    async def model_ready(model: Model, version: str = "") -> Response:
        """Whether the service of a model can serve it: 200 or 503. Takes public ids and names in Triton."""
        backend = await directory.backend_of(model, patience=0)
        is_ready = backend.serving and health.ready
        if is_ready and version:
            is_ready = (await backend.call(_READY, service_pb2.ModelReadyRequest(name=model, version=version))).ready
        body = ModelReady(message=backend.message, ready=is_ready)
        return JSONResponse(body.model_dump(), 200 if is_ready else 503)

    async def model_metadata(model: Model, version: str = "") -> Response:
        """Tensors of a model: names, datatypes, shapes."""
        backend = await directory.backend_of(model)
        request = service_pb2.ModelMetadataRequest(name=model, version=version)
        return JSONResponse(as_json(await backend.call(_METADATA, request)))

    async def model_config(model: Model, version: str = "") -> Response:
        """Triton's configuration of a model."""
        return JSONResponse(as_json(await _config(await directory.backend_of(model), model, version)))

    _get_of_model(router, "", model_metadata)
    _get_of_model(router, "/ready", model_ready, {**KSERVE_RESPONSES, 503: {"model": ModelReady | KServeError}})
    _get_of_model(router, "/config", model_config)


def _add_inference(router: APIRouter, directory: Directory) -> None:
    async def infer(body: InferRequest, model: Model, version: str = "", timeout_ms: TimeoutMs = None) -> Response:
        """Run an inference: JSON, or JSON followed by binary tensors (`Inference-Header-Content-Length`)."""
        backend = await directory.backend_of(model, seconds(timeout_ms))
        request = await infer_http.to_proto(model, version, body)
        reply = await backend.call(generate.INFER, request, seconds(timeout_ms))
        return await infer_http.respond(body, reply)

    async def generate_one(
        body: GenerateRequest, model: Model, version: str = "", timeout_ms: TimeoutMs = None
    ) -> Response:
        """Run an inference whose inputs are fields of a JSON object."""
        answers = await _generated(directory, model, version, body, timeout_ms)
        return generate.json_response(await generate.one(answers, model))

    async def generate_stream(
        body: GenerateRequest, model: Model, version: str = "", timeout_ms: TimeoutMs = None
    ) -> Response:
        """Run an inference and send each of its answers as an event."""
        answers = await _generated(directory, model, version, body, timeout_ms)
        return generate.AnswerStream(answers, await anext(answers, None))

    _post_to_model(router, "/infer", infer, responses={200: {"content": _BINARY}, **KSERVE_RESPONSES})
    _post_to_model(router, "/generate", generate_one)
    _post_to_model(router, "/generate_stream", generate_stream, responses=_STREAMED, response_class=Response)


async def _config(backend: Backend, model: str, version: str, timeout: float | None = None) -> Any:
    return (await backend.call(_CONFIG, service_pb2.ModelConfigRequest(name=model, version=version), timeout)).config


async def _generated(
    directory: Directory, model: str, version: str, body: GenerateRequest, timeout_ms: int | None
) -> Any:
    backend = await directory.backend_of(model, seconds(timeout_ms))
    config = await _config(backend, model, version, seconds(timeout_ms))
    request = generate.to_proto(config, version, body)
    return generate.run(backend, config, request, seconds(timeout_ms))


def _refuse(router: APIRouter, path: str, why: str) -> None:
    async def refuse() -> Response:
        raise ServiceError(Kind.UNIMPLEMENTED, f"not served here: {why}", code="not_served")

    router.add_api_route(path, refuse, methods=["GET", "POST"], route_class_override=APIRoute, include_in_schema=False)
