"""`python -m services.gateway`: settings, fleet, HTTP and gRPC ports, run."""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from services.common import telemetry
from services.common.interceptors import Boundary
from services.common.server import Lifecycle, Listener, run
from services.common.settings import load
from services.gateway.access.access import access
from services.gateway.app import create_app
from services.gateway.directory import Directory
from services.gateway.fleet import Fleet
from services.gateway.grpc_server import create_grpc_server, log_call
from services.gateway.health import CONNECT, GatewayHealth
from services.gateway.kserve import KServe
from services.gateway.listeners import grpc_listener, http_listener
from services.gateway.scrape import Scrape
from services.gateway.settings import GatewaySettings
from services.gateway.tls import tls


async def main() -> int:
    """Serve until told to stop."""
    settings = load(GatewaySettings)
    instruments = telemetry.start("gateway", settings.common.log_level)
    fleet = Fleet.of(settings, instruments)
    health, directory = GatewayHealth.over(fleet), Directory(fleet)
    lifecycle = Lifecycle(settings.common, health, instruments)

    def run_along(work: Coroutine[Any, Any, None]) -> None:
        lifecycle.closing.callback(asyncio.create_task(work).cancel)

    async def start() -> Sequence[Listener]:
        guard, encryption = access(settings, directory, instruments), tls(settings)
        if guard is not None:
            health.keys = guard.keys
            run_along(guard.keys.follow())
        if encryption is not None:
            run_along(encryption.follow())
        lifecycle.closing.push_async_callback(fleet.close)
        with health.phase(CONNECT):
            await fleet.start()
        run_along(health.follow())
        run_along(directory.follow())
        # Refuses nothing: what came before the GOAWAY has its answer, what comes after it gRPC does not take.
        boundary = Boundary(instruments, lambda: False, log_call)
        grpc_port = create_grpc_server(
            fleet, KServe(health, directory), health.grpc, boundary, settings.max_message_bytes, guard
        )
        app = create_app(settings, fleet, directory, health, instruments, guard)
        return (
            http_listener(app, settings, encryption),
            grpc_listener(grpc_port, boundary, settings, encryption),
        )

    return await lifecycle.run((settings.host, settings.metrics_port), start, Scrape(settings).text)


if __name__ == "__main__":
    sys.exit(run(main))
