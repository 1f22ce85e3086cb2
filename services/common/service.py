"""How every service starts: fetch (artifacts, runtime repository), load (Triton), warm (self-test), then serve."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common import kserve, telemetry
from services.common.admission import Admission, Limits
from services.common.capacity import Objective
from services.common.engines import EngineCache
from services.common.health import Health
from services.common.interceptors import Boundary
from services.common.kserve import KServe
from services.common.load import Load
from services.common.machine import Machine, this_machine
from services.common.profile_choice import Chooser, Wanted
from services.common.runtime_repository import MODEL_REPOSITORY, RuntimeModel, materialise
from services.common.runtime_repository import slots as instances_at_once
from services.common.server import GrpcListener, Lifecycle, Listener, StartupError, grpc_server
from services.common.settings import ServiceSettings
from services.common.telemetry import Telemetry
from services.common.triton import TritonClient, model_config_pb2, service_pb2_grpc
from services.common.triton_process import TritonProcess

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service's own code is built from."""

    triton: TritonClient
    configs: Mapping[str, model_config_pb2.ModelConfig]
    admission: Admission
    load: Load
    telemetry: Telemetry
    draining: asyncio.Event
    """Set once the service is shutting down: calls that have no end by themselves end soon."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What makes a service this service."""

    name: str
    """Folder in model_repository/ and state folder."""
    grpc_service: str
    """Full name of its gRPC service."""
    models: Callable[[], Sequence[RuntimeModel]]
    """The Triton models and their artifacts. Raises StartupError when something is missing."""
    register: Callable[[Parts, grpc.aio.Server], Awaitable[None]]
    """Adds the servicers to the server, after proving on known input that the models compute right."""
    cost: kserve.Cost
    """Cost of a raw KServe request in the unit of the service's load."""
    facades: tuple[str, ...] = ()
    """Full names of further gRPC services that `register` adds: others' interfaces to the same models."""


async def serve(settings: ServiceSettings, blueprint: Blueprint) -> int:
    """Run the service until SIGTERM and return its exit code."""
    instruments = telemetry.start(blueprint.name, settings.common.log_level)
    names = (blueprint.grpc_service, *blueprint.facades, kserve.SERVICE_NAME)
    health = Health.of(names, ("fetch", "load", "warm"))
    lifecycle = Lifecycle(settings.common, health, instruments)
    starting = _Start(settings, blueprint, lifecycle)
    return await lifecycle.run((settings.host, settings.http_port), starting.start, starting.triton_metrics)


class _Start:
    """The start-up of one service."""

    def __init__(self, settings: ServiceSettings, blueprint: Blueprint, lifecycle: Lifecycle) -> None:
        self._settings, self._blueprint, self._lifecycle = settings, blueprint, lifecycle
        self._health, self._telemetry = lifecycle.health, lifecycle.telemetry
        self._metrics_url = settings.triton_metrics_url

    async def start(self) -> Sequence[Listener]:
        """Go through the phases and return the gRPC listener."""
        settings, blueprint = self._settings, self._blueprint
        work = settings.common.state_dir / blueprint.name
        with self._health.phase("fetch"):
            machine = await asyncio.to_thread(this_machine, own_triton=settings.triton_url is None)
            configs = await asyncio.to_thread(self._repository, work / "repository", machine)
        with self._health.phase("load"):
            triton = await self._triton(work)
        objective = Objective(settings.latency_objective_seconds, settings.latency_objective_seconds_per_unit)
        slots = instances_at_once(configs.values(), settings.common.cpu_threads, len(machine.gpus))
        load = Load(slots, objective=objective)
        limits = Limits(settings.admission_concurrency, settings.admission_queue, settings.admission_queue_seconds)
        admission = Admission(limits, load, self._telemetry)
        boundary = Boundary(self._telemetry, lambda: self._lifecycle.refusing)
        server = grpc_server(settings.max_message_bytes, [boundary])
        with self._health.phase("warm"):
            parts = Parts(triton, configs, admission, load, self._telemetry, self._lifecycle.draining)
            await blueprint.register(parts, server)
        raw = KServe(triton, configs, admission, self._health, blueprint.cost)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(raw, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health.grpc, server)
        names = (*self._health.services[1:], "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return [GrpcListener(server, boundary, settings.host, settings.grpc_port)]

    def _repository(self, target: Path, machine: Machine) -> dict[str, model_config_pb2.ModelConfig]:
        """Choose a profile for every model, then put the repository together. In a thread: engines are hashed."""
        settings, source = self._settings, MODEL_REPOSITORY / self._blueprint.name
        wanted = Wanted(settings.profile, settings.profiles, settings.gpu_instances)
        cache = EngineCache(settings.common.model_store)
        models = self._blueprint.models()
        chosen = Chooser(source, machine, cache, settings.common.cpu_threads, wanted).choose(models)
        return materialise(source, target, models, chosen, settings.common.cpu_threads)

    async def triton_metrics(self) -> str:
        """Return Triton's own Prometheus text (`nv_*`); empty while Triton is away."""
        if self._metrics_url is None:
            return ""
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                return (await client.get(self._metrics_url)).text
        except httpx.HTTPError:
            return ""

    async def _triton(self, work: Any) -> TritonClient:
        settings, closing = self._settings, self._lifecycle.closing
        if settings.triton_url is not None:
            client = await closing.enter_async_context(TritonClient(settings.triton_url, settings.max_message_bytes))
            if not await client.server_ready(timeout=10):
                raise StartupError(f"the Triton at {settings.triton_url} is not ready")
            return client
        watch = _Watch(self._health)
        process = TritonProcess(work / "repository", work, watch.down, watch.up, self._telemetry.traces_url)
        watch.client = TritonClient(process.url, settings.max_message_bytes, process.restart)
        await closing.enter_async_context(process.running())
        self._metrics_url = process.metrics_url
        self._telemetry.gauge("flotilla_triton_restarts", "Times Triton was restarted.", lambda: process.restarts)
        return await closing.enter_async_context(watch.client)


@dataclass(slots=True)
class _Watch:
    """What follows when our Triton goes and comes."""

    health: Health
    client: TritonClient | None = None

    async def down(self, why: str) -> None:
        """Send nothing to it, and tell the callers."""
        if self.client is not None:
            self.client.pause()
        await self.health.down("triton", why)

    async def up(self) -> None:
        """Ready is more than up: our channel may be waiting out a back-off."""
        if self.client is not None:
            await self.client.resume()
        await self.health.up("triton")
