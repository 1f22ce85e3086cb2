"""Health of the gateway: its own readiness, and beside it the state of every service."""

from typing import Any

from services.common.health import NOT_SERVING, SERVING, Health, Phase
from services.gateway.access.keys import Keys
from services.gateway.fleet import Fleet

CONNECT = "connect"


class GatewayHealth(Health):
    """Ready when the gateway can serve. A service that is down shows in the body and takes nothing else out."""

    fleet: Fleet
    keys: Keys | None = None
    """The API keys in force, where they are asked for."""

    @classmethod
    def over(cls, fleet: Fleet) -> "GatewayHealth":
        """Return the health of a gateway in front of `fleet`. Its one phase is `CONNECT`."""
        health = cls(services=("", "inference.GRPCInferenceService"), phases={CONNECT: Phase(CONNECT)})
        health.fleet = fleet
        return health

    def status(self, service: str) -> int | None:
        """Return the grpc.health.v1 status: the gateway's own as "", each service's under its gRPC names."""
        for known in self.fleet.services:
            if service in known.grpc_names:
                return int(SERVING if known.backend.serving and not self.draining else NOT_SERVING)
        return super().status(service)

    async def follow(self) -> None:
        """Tell the watchers whenever a service comes or goes, until cancelled."""
        version = self.fleet.changes.version
        while True:
            version = await self.fleet.changes.after(version)
            await self.publish()

    def body(self) -> dict[str, Any]:
        """Return the JSON body of /v1/health/ready."""
        backends = [service.backend for service in self.fleet.services]
        services = {backend.name: {"ready": backend.serving, "message": backend.message} for backend in backends}
        keys = {} if self.keys is None else {"keys": {"stale": self.keys.fault is not None}}
        return {**super().body(), "services": services, **keys}
