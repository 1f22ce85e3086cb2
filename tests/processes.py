"""The process tree of a service: its Triton and the Python stubs of that."""

import psutil


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def triton_of(pid: int) -> psutil.Process:
    return next(p for p in descendants(pid) if "tritonserver" in p.name())


def stubs_of(pid: int) -> list[psutil.Process]:
    return [p for p in descendants(pid) if "triton_python" in p.name()]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
