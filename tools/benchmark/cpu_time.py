"""How much CPU time the processes of a fleet have used."""

import psutil

from tools.fleet.private import PrivateFleet


def cpu_seconds_of(fleet: PrivateFleet) -> dict[str, float]:
    """Return the CPU time of each process, and apart from it of its Triton and of the Python models in that."""
    return {name: used for process in fleet.processes for name, used in _seconds(process.name, process.pid).items()}


def _seconds(name: str, pid: int | None) -> dict[str, float]:
    service = psutil.Process(pid)
    used = {name: _used(service)}
    for child in service.children(recursive=True):
        part = f"{name}'s models" if "python_backend" in " ".join(child.cmdline()[:1]) else f"{name}'s Triton"
        used[part] = used.get(part, 0.0) + _used(child)
    return used


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
