"""Shared memory: tensors pass between Triton and its Python models through it, and a container has little of it."""

import logging
import shutil
from pathlib import Path

from services.common.server import StartupError

_log = logging.getLogger(__name__)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
LEAST_MIB = 64
ENOUGH_MIB = 256


def check_shared_memory(folder: Path = SHARED_MEMORY) -> None:
    """Raise StartupError where there is so little that Triton would start and then fail requests; warn of little."""
    mib = shutil.disk_usage(folder).total // (1 << 20) if folder.is_dir() else 0
    if mib < LEAST_MIB:
        raise StartupError(
            f"{folder} has {mib} MiB, Triton takes {LEAST_MIB}: set shm_size (compose), --shm-size (docker) or "
            f"an emptyDir with medium Memory (Kubernetes) to {ENOUGH_MIB} MiB or more"
        )
    if mib < ENOUGH_MIB:
        _log.warning("%s has %d MiB; large requests may fail with less than %d", folder, mib, ENOUGH_MIB)
