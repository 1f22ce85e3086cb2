"""The metrics of every service, Triton's among them, read from their HTTP ports when someone asks the gateway."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping

import httpx

from services.common.http import METRICS_TYPE
from services.common.ports import SERVICES
from services.common.prometheus_text import labelled, merged
from services.gateway.resolution import resolve
from services.gateway.settings import GatewaySettings

UP = "flotilla_gateway_scrape_up"
_UP_HEAD = f"# HELP {UP} Whether the metrics of a service could be read just now.\n# TYPE {UP} gauge\n"


class Scrape:
    """Reads the metrics of the fleet."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._places = places(settings)
        self._seconds = settings.scrape_timeout_seconds
        self._running: asyncio.Task[str] | None = None

    async def text(self) -> str:
        """Return the Prometheus text of all services, labelled with `service` and `instance`.

        Whoever asks while it is being read gets the same text.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._read())
        return await asyncio.shield(self._running)

    async def _read(self) -> str:
        # What is read is http:// alone; loading the system's certificates would hold up the event loop.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with httpx.AsyncClient(timeout=self._seconds, trust_env=False, verify=tls) as client:
            found = await asyncio.gather(
                *(self._one(client, name, place) for name, several in self._places.items() for place in several)
            )
        return merged(*(text for texts in found for text in texts))

    async def _one(self, client: httpx.AsyncClient, service: str, place: str) -> Iterable[str]:
        """Return the texts of all addresses that host:port stands for."""
        try:
            instances = {endpoint.target.partition(":")[2] for endpoint in await resolve([place])}
        except OSError:
            return [_up(service, place, False)]
        return await asyncio.gather(*(self._instance(client, service, instance) for instance in sorted(instances)))

    async def _instance(self, client: httpx.AsyncClient, service: str, instance: str) -> str:
        try:
            async with asyncio.timeout(self._seconds):
                answer = await client.get(f"http://{instance}/metrics", headers={"accept": METRICS_TYPE})
                answer.raise_for_status()
        except (httpx.HTTPError, TimeoutError):
            return _up(service, instance, False)
        return _up(service, instance, True) + labelled(answer.text, {"service": service, "instance": instance})


def places(settings: GatewaySettings) -> Mapping[str, list[str]]:
    """Return where the metrics of each service are, as host:port: as the settings say, else next to its gRPC port."""
    given: dict[str, list[str]] = {}
    for entry in settings.metrics_addresses.split(",") if settings.metrics_addresses.strip() else ():
        name, _, place = entry.strip().partition("=")
        given.setdefault(name, []).append(place)
    return {service: given.get(service) or list(_derived(settings, service)) for service in _names(settings)}


def _names(settings: GatewaySettings) -> list[str]:
    return [service.name for service in SERVICES if getattr(settings, f"{service.name}_addresses", "").strip()]


def _derived(settings: GatewaySettings, name: str) -> Iterable[str]:
    """Yield the usual HTTP port of a service at every gRPC address that has its usual gRPC port."""
    (service,) = (service for service in SERVICES if service.name == name)
    for address in getattr(settings, f"{name}_addresses").split(","):
        host, _, port = address.strip().rpartition(":")
        if port == str(service.grpc_port):
            yield f"{host}:{service.http_port}"


def _up(service: str, instance: str, up: bool) -> str:
    return _UP_HEAD + labelled(f"{UP} {int(up)}\n", {"service": service, "instance": instance})
