"""`python -m services.gateway`: settings, fleet, HTTP and gRPC ports, run."""

import asyncio
import sys
from collections.abc import Sequence

from services.common import telemetry
from services.common.interceptors import Boundary
from services.common.server import GrpcListener, HttpListener, Lifecycle, Listener, run
from services.common.settings import load
from services.gateway.access.access import access
from services.gateway.app import create_app
from services.gateway.directory import Directory
from services.gateway.fleet import Fleet
from services.gateway.grpc_server import create_grpc_server
from services.gateway.health import CONNECT, GatewayHealth
from services.gateway.kserve import KServe
from services.gateway.scrape import Scrape
from services.gateway.settings import GatewaySettings


async def main() -> int:
    """Serve until told to stop."""
    settings = load(GatewaySettings)
    instruments = telemetry.start("gateway", settings.common.log_level)
    fleet = Fleet.of(settings, instruments)
    health, directory = GatewayHealth.over(fleet), Directory(fleet)
    lifecycle = Lifecycle(settings.common, health, instruments)

    async def start() -> Sequence[Listener]:
        guard = access(settings, directory, instruments)
        if guard is not None:
            health.keys = guard.keys
            reloading = asyncio.create_task(guard.keys.follow())
            lifecycle.closing.callback(reloading.cancel)
        lifecycle.closing.push_async_callback(fleet.close)
        with health.phase(CONNECT):
            await fleet.start()
        following = asyncio.create_task(health.follow())
        lifecycle.closing.callback(following.cancel)
        boundary = Boundary(instruments, lambda: lifecycle.refusing)
        grpc_port = create_grpc_server(
            fleet, KServe(health, directory), health.grpc, boundary, settings.max_message_bytes, guard
        )
        app = create_app(settings, fleet, directory, health, instruments, guard)
        return (
            HttpListener(
                app,
                settings.host,
                settings.http_port,
                http="httptools",
                ws="none",
                lifespan="off",
                timeout_keep_alive=settings.keep_alive_seconds,
                server_header=False,
                proxy_headers=False,
            ),
            GrpcListener(grpc_port, boundary, settings.host, settings.grpc_port),
        )

    return await lifecycle.run((settings.host, settings.metrics_port), start, Scrape(settings).text)


if __name__ == "__main__":
    sys.exit(run(main))
