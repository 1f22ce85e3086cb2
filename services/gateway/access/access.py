"""Access to the gateway: who must show a key, and whose key it is. Both transports ask here."""

from collections.abc import Mapping
from pathlib import Path

from services.common.errors import Kind, ServiceError
from services.common.ports import is_loopback
from services.common.server import StartupError
from services.common.telemetry import Telemetry
from services.gateway.access.caller import Account, Caller, Ledger
from services.gateway.access.key_file import Key, KeyFileError, covers
from services.gateway.access.keys import Keys
from services.gateway.access.limits import LimitStore, MemoryLimits
from services.gateway.directory import Directory
from services.gateway.settings import GatewaySettings

AUTHORIZATION, API_KEY = "authorization", "x-api-key"

_HEALTH = (
    "/v1/health/live",
    "/v1/health/ready",
    "/v2/health/live",
    "/v2/health/ready",
    "/grpc.health.v1.Health/*",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)
_METRICS = ("/metrics", "/v1/metrics")
_DOCUMENTS = ("/docs", "/docs/*", "/openapi.json", "/grpc.reflection.*")


class Access:
    """Lets callers in that have a key."""

    def __init__(
        self, settings: GatewaySettings, directory: Directory, telemetry: Telemetry, store: LimitStore | None = None
    ) -> None:
        """Read the key file of the settings. `store` keeps the limits; by default this process's memory.

        Raises StartupError.
        """
        try:
            self.keys = Keys(Path(settings.keys_file), telemetry)
        except KeyFileError as error:
            raise StartupError(str(error)) from None
        keyless = (
            *_HEALTH,
            *(_METRICS if settings.keyless_metrics else ()),
            *(_DOCUMENTS if settings.keyless_documents else ()),
        )
        self._keyless = frozenset(route for route in keyless if "*" not in route)
        self._keyless_patterns = tuple(route for route in keyless if "*" in route)
        self._accounts: dict[str, Account] = {}
        self._refused = telemetry.counter(
            "flotilla_gateway_unauthenticated", "Requests refused for their API key, by reason."
        )
        self._ledger = Ledger(
            store=store or MemoryLimits(),
            names_of=directory.names_of,
            used=telemetry.counter("flotilla_gateway_used", "What keys have used, by unit."),
            limited=telemetry.counter("flotilla_gateway_limited", "Requests and calls refused at a limit of a key."),
        )

    def is_keyless(self, route: str) -> bool:
        """Whether a route, an HTTP path or a gRPC method, is for everybody."""
        return route in self._keyless or covers(self._keyless_patterns, route)

    def caller(self, headers: Mapping[str, str], route: str) -> Caller:
        """Return who sends a request for `route`. Keys of `headers` are in lower case.

        Raises UNAUTHENTICATED, PERMISSION_DENIED.
        """
        try:
            key = self.keys.find(_presented(headers))
        except ServiceError as error:
            self._refused.add(1, {"reason": error.code or ""})
            raise
        if not covers(key.routes, route):
            message = f"this API key does not cover {route}; it covers: {', '.join(key.routes)}"
            raise ServiceError(Kind.PERMISSION_DENIED, message, code="route_not_allowed")
        return Caller(self._account(key), self._ledger)

    def _account(self, key: Key) -> Account:
        account = self._accounts.get(key.id)
        if account is None or account.key is not key:  # new, or read again
            account = Account(key, None if account is None else account.mean_seconds)
            self._accounts[key.id] = account
        return account


def access(settings: GatewaySettings, directory: Directory, telemetry: Telemetry) -> Access | None:
    """Return the access that the settings ask for; None where everybody may call. Raises StartupError."""
    if settings.keys_file:
        return Access(settings, directory, telemetry)
    if not (settings.allow_keyless or is_loopback(settings.host)):
        raise StartupError(
            f"FLOTILLA_GATEWAY_HOST={settings.host} would let everybody in who reaches it; set "
            "FLOTILLA_GATEWAY_KEYS_FILE (flotilla keys create makes one), or FLOTILLA_GATEWAY_ALLOW_KEYLESS=true"
        )
    return None


def _presented(headers: Mapping[str, str]) -> str | None:
    scheme, _, credentials = headers.get(AUTHORIZATION, "").strip().partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" and credentials else headers.get(API_KEY, "").strip()
