"""What a process costs: the memory of its whole tree, and since when it runs."""

import time
from contextlib import suppress

import psutil

from tools.fleet.state import ProcessState


def memory_bytes(process: ProcessState) -> int:
    """Return the resident memory of a process and everything it started; pages they share count for each."""
    if process.pid is None:
        return 0
    total = 0
    with suppress(psutil.Error):
        parent = psutil.Process(process.pid)
        for member in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def uptime_seconds(process: ProcessState) -> float:
    """Return for how long a process runs."""
    return time.time() - process.created if process.created else 0.0
