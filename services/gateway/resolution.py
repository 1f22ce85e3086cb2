"""Resolution: the host:port list of the settings turned into the addresses to connect to."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address: a numeric gRPC target, and the authority (host:port as configured) that calls are made for."""

    target: str
    authority: str


async def resolve(places: Sequence[str]) -> frozenset[Endpoint]:
    """Return every address the host:port entries of `places` stand for now. Raises OSError when a name is unknown."""
    found = await asyncio.gather(*(_resolve(place) for place in places))
    return frozenset().union(*found)


async def _resolve(place: str) -> frozenset[Endpoint]:
    host, _, port = place.rpartition(":")
    rows = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return frozenset(Endpoint(_target(family, sockaddr), place) for family, _, _, _, sockaddr in rows)


def _target(family: int, sockaddr: tuple[str | int, ...] | tuple[int, bytes]) -> str:
    host, port = sockaddr[:2]
    return f"ipv6:[{host!s}]:{port!s}" if family == socket.AF_INET6 else f"ipv4:{host!s}:{port!s}"
