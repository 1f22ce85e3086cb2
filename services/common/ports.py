"""The one table of services and the ports they have unless the environment says otherwise."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """A process of the fleet: where it listens and which module starts it."""

    name: str
    grpc_port: int
    http_port: int
    metrics_port: int | None = None

    @property
    def module(self) -> str:
        """The module that `python -m` runs."""
        return f"services.{self.name}"

    def variable(self, setting: str) -> str:
        """Return the environment variable of a setting: `http_port` of asr is FLOTILLA_ASR_HTTP_PORT."""
        return f"FLOTILLA_{self.name}_{setting}".upper()


GATEWAY = Service("gateway", grpc_port=8001, http_port=8000, metrics_port=8002)
SERVICES = (
    Service("embedding", grpc_port=50062, http_port=9062),
    GATEWAY,
)
