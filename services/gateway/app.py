"""The HTTP application: the routes, and the one place where errors leave over HTTP."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from services.common.errors import ServiceError
from services.common.telemetry import Telemetry
from services.gateway.access.access import Access
from services.gateway.access.document import with_keys
from services.gateway.access.http_gate import HttpGate
from services.gateway.bodies import Bodies, BodyLimits
from services.gateway.directory import Directory
from services.gateway.edge import Edge
from services.gateway.errors import http_error, service_error, unexpected_error, validation_error
from services.gateway.examples import documented
from services.gateway.fleet import Fleet
from services.gateway.health import GatewayHealth
from services.gateway.json_route import Shortcut
from services.gateway.kserve import KServe
from services.gateway.origins import allow_origins, listed, trust_proxies
from services.gateway.remote_images import RemoteImages, parse_hosts
from services.gateway.routers import (
    audio,
    chat,
    completions,
    documentation,
    embeddings,
    health,
    kserve,
    metadata,
    models,
    ranking,
    responses,
    tokens,
    vision,
)
from services.gateway.scrape import Scrape
from services.gateway.settings import GatewaySettings
from services.gateway.version import release


def create_app(  # noqa: PLR0913, PLR0917  # everything that the routes stand on
    settings: GatewaySettings,
    fleet: Fleet,
    directory: Directory,
    gateway_health: GatewayHealth,
    telemetry: Telemetry,
    access: Access | None,
    remote_images: RemoteImages | None = None,
) -> ASGIApp:
    """Return the application of the HTTP port.

    Without `access` no key is asked for. `remote_images` fetches images by URL; default: as the settings say.
    """
    remote_images = remote_images or RemoteImages(
        parse_hosts(settings.image_url_hosts), settings.body_limit_bytes, settings.image_url_timeout_seconds
    )
    # The framework's own pages would load their scripts from elsewhere.
    app = FastAPI(title="Flotilla", version=release(), docs_url=None, redoc_url=None)
    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected_error)
    llm, keep_alive = fleet.llm.backend, settings.stream_keep_alive_seconds
    routers = [
        chat.create_router(llm, keep_alive),
        completions.create_router(llm, keep_alive),
        responses.create_router(llm, keep_alive),
        tokens.create_router(llm),
        embeddings.create_router(fleet.embedding.backend, directory),
        ranking.create_router(fleet.embedding.backend),
        audio.create_router(fleet.asr.backend, directory, settings),
        vision.create_router(fleet.vision.backend, directory, remote_images),
        models.create_router(directory),
        health.create_router(gateway_health, telemetry, Scrape(settings)),
        metadata.create_router(directory, settings.common.model_manifest),
        kserve.create_router(KServe(gateway_health, directory), directory, gateway_health, settings.body_limit_bytes),
    ]
    for router in (*routers, documentation.create_router()):
        app.include_router(router)
    app.openapi = documented(app.openapi)  # type: ignore[method-assign]
    if access is not None:
        app.openapi = with_keys(app.openapi, access.is_keyless)  # type: ignore[method-assign]
    served = Shortcut(app, (route for router in routers for route in router.routes))
    guarded = served if access is None else HttpGate(served, access)
    limited = allow_origins(_with_limits(guarded, settings), listed(settings.cors_origins))
    return trust_proxies(Edge(limited, gateway_health, telemetry), listed(settings.trusted_proxies))


def _with_limits(app: ASGIApp, settings: GatewaySettings) -> Bodies:
    """Return `app` with what bodies may be: uploads of audio may be large, and slow as long as they go on."""
    pause = settings.body_timeout_seconds
    usual = BodyLimits(settings.body_limit_bytes, settings.body_timeout_seconds, pause)
    largest = settings.audio_body_limit_bytes + audio.FORM_BYTES
    upload = BodyLimits(largest, settings.audio_body_timeout_seconds, pause)
    return Bodies(app, usual, dict.fromkeys(audio.PATHS.values(), upload))
