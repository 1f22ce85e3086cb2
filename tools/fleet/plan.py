"""What a start will run: each process with its command, its environment and its ports. Starts nothing."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.ports import GATEWAY, SERVICES, Service
from tools.cli.console import Problem
from tools.fleet.settings import FleetSettings, is_set, port_settings


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to start."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    host: str
    grpc_port: int
    http_port: int
    metrics_port: int | None = None

    @property
    def ports(self) -> dict[str, int]:
        """The ports by the name of the setting that changes them."""
        ports = {"grpc_port": self.grpc_port, "http_port": self.http_port}
        return ports if self.metrics_port is None else {**ports, "metrics_port": self.metrics_port}


def choose(names: Sequence[str]) -> list[Service]:
    """Return the services with these names (all when empty), the gateway always and last."""
    known = {service.name: service for service in SERVICES}
    for name in names:
        if name not in known:
            raise Problem(f"there is no service {name}", f"choose from: {', '.join(known)}")
    chosen = [service for service in SERVICES if service is not GATEWAY and (not names or service.name in names)]
    return [*chosen, GATEWAY]


def plan(services: Sequence[Service], settings: FleetSettings, host: str | None, port: int | None) -> list[Launch]:
    """Return the processes for these services; host and port move the gateway (gRPC is port + 1, metrics port + 2)."""
    models = [_launch(service, settings, len(services) - 1) for service in services if service is not GATEWAY]
    gateway = _launch(GATEWAY, settings, 1, host, port)
    absent = {
        GATEWAY.variable(f"{service.name}_addresses"): ""
        for service in SERVICES
        if service not in services and not is_set(GATEWAY.variable(f"{service.name}_addresses"))
    }
    addresses = {
        GATEWAY.variable(f"{launch.name}_addresses"): f"{reachable(launch.host)}:{launch.grpc_port}"
        for launch in models
    }
    metrics = ",".join(f"{launch.name}={reachable(launch.host)}:{launch.http_port}" for launch in models)
    if not is_set(GATEWAY.variable("metrics_addresses")):
        addresses[GATEWAY.variable("metrics_addresses")] = metrics
    return [*models, _with(gateway, {**absent, **addresses})]


def reachable(host: str) -> str:
    """Return the address at which this machine reaches a listener on host."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104


def _launch(
    service: Service, settings: FleetSettings, sharers: int, host: str | None = None, port: int | None = None
) -> Launch:
    found = port_settings(service)
    if port is not None and port > 65533:
        raise Problem(f"--port {port} leaves no room for the gRPC and metrics ports", "choose at most 65533")
    launch = Launch(
        name=service.name,
        command=(sys.executable, "-P", "-m", service.module),
        environment={},
        host=host or found.host,
        http_port=port or found.http_port or service.http_port,
        grpc_port=port + 1 if port else found.grpc_port or service.grpc_port,
        metrics_port=port + 2 if port else found.metrics_port or service.metrics_port,
    )
    listening = {service.variable(setting): str(number) for setting, number in launch.ports.items()}
    return _with(
        launch,
        {
            **listening,
            service.variable("host"): launch.host,
            "FLOTILLA_MODEL_STORE": str(settings.model_store),
            "FLOTILLA_STATE_DIR": str(settings.state_dir),
            "FLOTILLA_LOG_LEVEL": settings.log_level,
            "FLOTILLA_CPU_THREADS": str(max(1, settings.cpu_threads // max(1, sharers))),
            "FLOTILLA_DRAIN_PROPAGATION_SECONDS": "0",  # no load balancer is in front of one machine's fleet
            "FLOTILLA_DRAIN_GRACE_SECONDS": str(settings.drain_grace_seconds),
            "PYTHONUNBUFFERED": "1",
        },
    )


def _with(launch: Launch, environment: Mapping[str, str]) -> Launch:
    return Launch(
        name=launch.name,
        command=launch.command,
        environment={**launch.environment, **environment},
        host=launch.host,
        grpc_port=launch.grpc_port,
        http_port=launch.http_port,
        metrics_port=launch.metrics_port,
    )
