"""How many CPUs this process may really use. Engines that ask the operating system see the host's cores instead."""

import math
import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cpus(quota_file: Path = CGROUP_QUOTA) -> int:
    """Return the CPUs of the affinity mask, or of the cgroup v2 quota (rounded up) where that is less."""
    affinity = len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text().split()
        if quota == "max":
            return affinity
        return max(1, min(affinity, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return affinity
