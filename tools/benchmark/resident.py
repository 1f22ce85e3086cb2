"""How much memory the processes of a fleet hold."""

import psutil

from tools.fleet.private import PrivateFleet


def megabytes_of(fleet: PrivateFleet) -> dict[str, float]:
    """Return the resident set size of each process, in MB, and apart from it of the Triton it has started."""
    return {name: size for process in fleet.processes for name, size in _megabytes(process.name, process.pid).items()}


def _megabytes(name: str, pid: int | None) -> dict[str, float]:
    service = psutil.Process(pid)
    triton = sum(child.memory_info().rss for child in service.children(recursive=True))
    own = {name: service.memory_info().rss / 1e6}
    return {**own, f"{name}'s Triton": triton / 1e6} if triton else own
