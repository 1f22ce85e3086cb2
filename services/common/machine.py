"""What this machine has for running models: processors' platform, memory, NVIDIA GPUs, and the Triton in use.

Facts only; whether a profile fits them is for `profiles`. Nothing here loads CUDA: the facts of GPUs come from
nvidia-smi, which every container with GPUs has.
"""

import csv
import io
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from services.common.cpu import weight_bits
from services.common.settings import child_environment, tensorrt_release

OFFICIAL_TRITON = Path("/opt/tritonserver")
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
FORWARD_COMPATIBILITY = Path("/usr/local/cuda/compat")
PACKAGES = Path("/var/lib/dpkg/status")
QUERY = ("index", "uuid", "name", "compute_cap", "memory.total", "driver_version")
QUERY_SECONDS = 30.0
MEBIBYTE = 1 << 20

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that a process of ours may use."""

    name: str
    """As CUDA names it: "NVIDIA H100 80GB HBM3"."""
    compute_capability: str
    """Major and minor number: "9.0"."""
    memory_bytes: int
    """All of its memory, used or not; 0 where nvidia-smi does not tell (a slice of a GPU)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts that decide which profiles fit."""

    platform: str
    """Operating system and architecture: "linux-x86_64"."""
    memory_bytes: int
    """Main memory, or the limit of the control group where that is less."""
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    """Version of the NVIDIA driver; "" where there is none."""
    forward_compatible: bool = False
    """Whether CUDA's forward compatibility package is installed: an older driver of a data centre GPU will do."""
    backends: frozenset[str] | None = None
    """Backends of the Triton in use; None where that runs elsewhere and nobody can look."""
    weight_bits: int = 8
    """Bits of a weight that its CPUs multiply exactly with bytes: 8, or 7."""
    tensorrt: str = ""
    """Release of TensorRT next to that Triton, "11.4.0.1"; "" where there is none or its release is not known."""

    @property
    def least_gpu_memory(self) -> int:
        """Memory of the smallest GPU in bytes; 0 where no GPU tells it."""
        return min((gpu.memory_bytes for gpu in self.gpus if gpu.memory_bytes), default=0)


def this_platform() -> str:
    """Return operating system and architecture as the keys of engines name them: "linux-x86_64"."""
    return f"{platform.system().lower()}-{platform.machine()}"


def this_machine(*, own_triton: bool = True) -> Machine:
    """Return the facts of this machine. `own_triton`: whether Triton is a child process, whose backends can be seen."""
    gpus, driver = visible_gpus()
    return Machine(
        platform=this_platform(),
        memory_bytes=_memory(),
        gpus=gpus,
        driver=driver,
        forward_compatible=FORWARD_COMPATIBILITY.is_dir(),
        backends=_backends() if own_triton else None,
        weight_bits=weight_bits(),
        tensorrt=tensorrt_version(),
    )


def numbers(version: str) -> Numbers:
    """Return the numbers of a version for comparing: "580.65.06" is (580, 65, 6)."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def visible_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs that CUDA will show to a child process, and the version of the driver; () and "" without any.

    CUDA_VISIBLE_DEVICES counts, by index or UUID as CUDA reads it: an unknown entry hides itself and all that follow.
    """
    rows = _query()
    chosen = child_environment().get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        rows = _chosen(rows, [entry.strip() for entry in chosen.split(",")])
    gpus = tuple(Gpu(name, capability, _mebibytes(memory)) for _, _, name, capability, memory, _ in rows)
    return gpus, rows[0][-1] if rows else ""


def tensorrt_version(packages: Path = PACKAGES) -> str:
    """Return the release of TensorRT installed here, "11.4.0.1", or "".

    NVIDIA's images name it in TRT_VERSION; elsewhere the package of libnvinfer does.
    """
    if release := _release(tensorrt_release()):
        return release
    try:
        text = packages.read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r"^Package: libnvinfer\d+\n(?:.+\n)*?Version: (\S+)", text, re.MULTILINE)
    return _release(found[1]) if found else ""


def _release(text: str) -> str:
    found = re.match(r"\d+(\.\d+)+", text)
    return found[0] if found else ""


def _query() -> list[list[str]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # the program is there, a driver that answers is not
        return []
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(answer.stdout))]
    return [row for row in rows if len(row) == len(QUERY)]


def _chosen(rows: list[list[str]], entries: list[str]) -> list[list[str]]:
    chosen: list[list[str]] = []
    for entry in entries:
        found = next((row for row in rows if entry and (row[0] == entry or row[1].startswith(entry))), None)
        if found is None or found in chosen:
            break
        chosen.append(found)
    return chosen


def _mebibytes(text: str) -> int:
    return int(text) * MEBIBYTE if text.isdigit() else 0


def _backends() -> frozenset[str]:
    folder = OFFICIAL_TRITON / "backends"
    if not folder.is_dir():
        spec = find_spec("pytriton")
        if spec is None or spec.origin is None:
            return frozenset()
        folder = Path(spec.origin).parent / "tritonserver" / "backends"
    return frozenset(path.name for path in folder.glob("*") if path.is_dir())


def _memory(limit_file: Path = CGROUP_MEMORY) -> int:
    total = psutil.virtual_memory().total
    try:
        return min(total, int(limit_file.read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return int(total)
