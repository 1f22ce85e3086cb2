"""Health over HTTP under NIM's names and KServe's, and the metrics."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from services.common.http import LIVE, METRICS_TYPE
from services.common.prometheus_text import merged
from services.common.telemetry import Telemetry
from services.gateway.health import GatewayHealth
from services.gateway.scrape import Scrape


def create_router(health: GatewayHealth, telemetry: Telemetry, scrape: Scrape) -> APIRouter:
    """Return the routes over `health`; `scrape` reads the metrics of the services."""
    router = APIRouter(tags=["health"])

    @router.get("/v1/health/live")
    @router.get("/v2/health/live")
    async def live() -> Response:
        """Whether the process works."""
        return JSONResponse(LIVE)

    @router.get("/v1/health/ready", responses={503: {}})
    @router.get("/v2/health/ready", responses={503: {}})
    async def ready() -> Response:
        """Whether the gateway can serve: 200 or 503. The state of each service is in the body."""
        return JSONResponse(health.body(), 200 if health.ready else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    @router.get("/v1/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """All metrics of the gateway and of every service as Prometheus text."""
        text = merged(telemetry.prometheus_text(), await scrape.text())
        return PlainTextResponse(text, media_type=METRICS_TYPE)

    return router
