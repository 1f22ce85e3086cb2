"""The one table of services and the ports they have unless the environment says otherwise; and ports that are free."""

import contextlib
import errno
import ipaddress
import random
import socket
from dataclasses import dataclass

# Below the range the kernel takes outgoing ports from: a port found free is not taken by a connection meanwhile.
_FREE = range(20_000, 32_000)


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
    Service("llm", grpc_port=50061, http_port=9061),
    Service("embedding", grpc_port=50062, http_port=9062),
    Service("asr", grpc_port=50063, http_port=9063),
    Service("vision", grpc_port=50064, http_port=9064),
    GATEWAY,
)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on. Raises OSError when there are not so many."""
    ports: list[int] = []
    for port in random.sample(_FREE, len(_FREE)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(errno.EADDRINUSE, "no free port on 127.0.0.1")
