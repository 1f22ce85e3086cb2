"""Where requests come from: the pages of browsers that may send them, and the proxies whose word about it counts."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_UNITS = ("requests", "tokens", "audio-seconds", "images")
_READABLE = (
    "x-request-id",
    "retry-after",
    "retry-after-ms",
    *(f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset") for unit in _UNITS),
)


def allow_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return `app` whose answers browsers hand to pages of these origins, preflights among them. Without any: `app`.

    Keys travel in headers that a page has to set, never in cookies.
    """
    if not origins:
        return app
    methods = ("GET", "POST", "DELETE", "OPTIONS")
    return CORSMiddleware(app, origins, methods, allow_headers=("*",), expose_headers=_READABLE, max_age=3600)


def trust_proxies(app: ASGIApp, proxies: Sequence[str]) -> ASGIApp:
    """Return `app` with client and scheme taken from X-Forwarded-For and -Proto, from these addresses alone."""
    return ProxyHeadersMiddleware(app, list(proxies)) if proxies else app  # type: ignore[arg-type,return-value]


def listed(text: str) -> list[str]:
    """Return the items of a setting with commas."""
    return [item.strip() for item in text.split(",") if item.strip()]
