"""The small HTTP port of every process: liveness, readiness with start-up phases, Prometheus metrics."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from services.common.health import Health
from services.common.prometheus_text import merged
from services.common.telemetry import Telemetry

LIVE = {"object": "health.response", "message": "live", "live": True}
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HttpServer(uvicorn.Server):
    """Uvicorn on this event loop. The lifecycle owns the signals, so uvicorn must not."""

    def __init__(self, app: ASGIApp, host: str, port: int, **options: object) -> None:
        super().__init__(uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, **options))  # type: ignore[arg-type]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers alone."""
        yield

    @property
    def port(self) -> int:
        """The port that is listened on, once started."""
        return int(self.servers[0].sockets[0].getsockname()[1])


def health_app(
    health: Health, telemetry: Telemetry, passed_on: Callable[[], Awaitable[str]] | None = None
) -> Starlette:
    """Return the app of the health port. `passed_on` gives further Prometheus text, such as Triton's own."""

    async def live(_: Request) -> JSONResponse:
        return JSONResponse(LIVE)

    async def ready(_: Request) -> JSONResponse:
        return JSONResponse(health.body(), status_code=200 if health.ready else 503)

    async def metrics(_: Request) -> PlainTextResponse:
        further = await passed_on() if passed_on else ""
        return PlainTextResponse(merged(telemetry.prometheus_text(), further), media_type=METRICS_TYPE)

    return Starlette(
        routes=[
            Route("/v1/health/live", live),
            Route("/v1/health/ready", ready),
            Route("/metrics", metrics),
            Route("/v1/metrics", metrics),
        ]
    )
