"""What the CPUs of this process can do, and how many it may really use. Engines that ask the system see the host's."""

import math
import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CPU_INFO = Path("/proc/cpuinfo")
VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


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


def weight_bits(cpu_info: Path = CPU_INFO) -> int:
    """Return how many bits a weight may have for exact products with bytes: 8 with VNNI and on other than x86, else 7.

    Older x86 CPUs add pairs of products in 16 bits, which overflow unless the weights keep to seven bits.
    """
    try:
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 8
    flags = next((line for line in lines if line.startswith("flags")), None)
    return 8 if flags is None or VNNI_FLAGS.intersection(flags.split()) else 7
