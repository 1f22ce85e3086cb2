"""Whether the ports of a plan are free, and who holds them when they are not."""

import errno
import socket
from collections.abc import Sequence

import psutil

from services.common.ports import GATEWAY
from tools.cli.console import Problem
from tools.fleet.plan import Launch


def check_ports(launches: Sequence[Launch]) -> None:
    """Raise Problem for the first port that cannot be used, with its holder and the setting that moves it."""
    taken: dict[int, str] = {}
    for launch in launches:
        for setting, port in launch.ports.items():
            variable = f"FLOTILLA_{launch.name}_{setting}".upper()
            if port in taken:
                raise Problem(f"{variable} and {taken[port]} are both {port}", "give each its own port")
            taken[port] = variable
            _check(launch, port, variable)


def holder(port: int) -> str | None:
    """Return `name (pid N)` of the process that listens on a port, where this user may see it."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.AccessDenied, OSError):
        return None
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return None


def _check(launch: Launch, port: int, variable: str) -> None:
    family = socket.AF_INET6 if ":" in launch.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((launch.host.strip("[]"), port))
            probe.listen(1)
    except OSError as error:
        raise _problem(error, launch, port, variable) from error


def _problem(error: OSError, launch: Launch, port: int, variable: str) -> Problem:
    move = f"set {variable}" + (" or pass --port" if launch.name == GATEWAY.name else "")
    if error.errno == errno.EADDRINUSE:
        return Problem(
            f"port {port} ({launch.name}) is in use by {holder(port) or 'another process'}",
            f"stop that process, or {move} to another port",
        )
    if error.errno == errno.EACCES:
        return Problem(f"this user may not listen on port {port} ({launch.name})", f"{move} to a port above 1023")
    return Problem(f"cannot listen on {launch.host}:{port} ({launch.name}): {error.strerror}", "pass another --host")
