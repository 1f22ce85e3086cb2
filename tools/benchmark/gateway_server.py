"""A gateway in front of instant services, with all that a public one has: keys, limits, metrics and traces by OTLP."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.common.ports import free_ports
from services.gateway.access.key_file import Key, KeyFile, KeyLimits, new_key, write
from tools.benchmark.peer_process import PeerProcess, peer_process

PLENTY = 10**15


@dataclass(frozen=True, slots=True)
class Instant:
    """Running instant services."""

    grpc: str
    http: str


@dataclass(frozen=True, slots=True)
class Server:
    """A running gateway, and a key that it takes."""

    process: PeerProcess
    grpc: str
    key: str

    @property
    def url(self) -> str:
        """Address of its HTTP API."""
        return self.process.url


@asynccontextmanager
async def instant_services(folder: Path) -> AsyncIterator[Instant]:
    """Run instant services while the block runs."""
    grpc_port, http_port = free_ports(2)
    command = (sys.executable, "-P", "-m", "tools.benchmark.instant", str(grpc_port), str(http_port))
    async with peer_process(command, http_port, folder / "instant.log") as process:
        process.resume()
        yield Instant(f"127.0.0.1:{grpc_port}", process.url)


@asynccontextmanager
async def gateway_server(folder: Path, instant: Instant) -> AsyncIterator[Server]:
    """Run a gateway in front of instant services while the block runs."""
    http_port, grpc_port, metrics_port = free_ports(3)
    key = _key_file(folder / "keys.json")
    settings = {
        "FLOTILLA_GATEWAY_HTTP_PORT": str(http_port),
        "FLOTILLA_GATEWAY_GRPC_PORT": str(grpc_port),
        "FLOTILLA_GATEWAY_METRICS_PORT": str(metrics_port),
        "FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES": instant.grpc,
        "FLOTILLA_GATEWAY_LLM_ADDRESSES": instant.grpc,
        "FLOTILLA_GATEWAY_ASR_ADDRESSES": "",
        "FLOTILLA_GATEWAY_VISION_ADDRESSES": "",
        "FLOTILLA_GATEWAY_KEYS_FILE": str(folder / "keys.json"),
        "FLOTILLA_DRAIN_PROPAGATION_SECONDS": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": instant.http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
    }
    command = (sys.executable, "-P", "-m", "services.gateway")
    log, health = folder / "gateway.log", "/v1/health/ready"
    async with peer_process(command, http_port, log, settings, health) as process:
        process.resume()
        yield Server(process, f"127.0.0.1:{grpc_port}", key)


def _key_file(path: Path) -> str:
    """Write a key file with one key, with limits that are never reached; return the key."""
    secret, identifier, digest = new_key()
    limits = KeyLimits(concurrency=PLENTY, requests_per_minute=PLENTY, tokens_per_minute=PLENTY, tokens_per_day=PLENTY)
    key = Key(id=identifier, name="benchmark", digest=digest, created=datetime.now(UTC), limits=limits)
    write(path, KeyFile(keys=(key,)))
    return secret
