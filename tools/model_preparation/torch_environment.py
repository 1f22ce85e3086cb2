"""The throw-away environment with torch that exporters run in. Never installs CUDA packages unasked."""

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from packaging.requirements import Requirement

from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.model_preparation.commands import pip, run
from tools.model_preparation.progress import step

ENVIRONMENT_BYTES = 2_000_000_000
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@contextmanager
def torch_environment(scratch: Path, index_url: str | None, *, allow_cuda: bool) -> Iterator[Path]:
    """Create the environment, give its interpreter, and delete it afterwards whatever happens."""
    folder = scratch / "environment"
    python = folder / "bin" / "python"
    index = ["--extra-index-url", index_url] if index_url else []
    constraints = ["--constraint", str(REPOSITORY_ROOT / "constraints.txt")]
    try:
        with step("Creating a temporary environment for the export") as current:
            code, lines = run([sys.executable, "-m", "venv", "--without-pip", folder], current.show)
            if code != 0:
                raise Problem(f"cannot create an environment: {lines[-1] if lines else code}", "install python3-venv")
        if not allow_cuda and not has_nvidia_gpu():
            with step("Asking the package index which torch it offers") as current:
                report = scratch / "report.json"
                # Where an index has no separate metadata, pip downloads what it resolves, even in a dry run: hence no
                # dependencies, and of torch itself only the end of the file (the feature of the pip we pin).
                dry = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--use-feature=fast-deps"]
                dry += ["--report", str(report), *index, *constraints, "torch"]
                pip(dry, "torch", scratch / "tmp", current.show, target=python)
                refuse_cuda(requirements_of(report))
        with step("Installing torch and the exporter into it (not kept)") as current:
            install = ["install", "--no-compile", "--progress-bar", "off", *index, *constraints, *export_requirements()]
            pip(install, "the export tools", scratch / "tmp", current.show, target=python)
        yield python
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def export_requirements() -> list[str]:
    """Return the requirements of the `export` extra in pyproject.toml."""
    document = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(document["project"]["optional-dependencies"]["export"])


def requirements_of(report: Path) -> list[str]:
    """Return the names that the packages in pip's installation report require on this machine."""
    document = json.loads(report.read_text(encoding="utf-8"))
    texts = [text for item in document["install"] for text in item["metadata"].get("requires_dist", [])]
    required = [Requirement(text) for text in texts]
    return [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]


def refuse_cuda(names: Sequence[str]) -> None:
    """Problem when packages for NVIDIA GPUs are among the names."""
    cuda = sorted(name for name in names if _is_cuda(name))
    if cuda:
        raise Problem(
            f"the package index offers torch only with {len(cuda)} CUDA packages ({cuda[0]}, ...; gigabytes), "
            "and this machine has no NVIDIA GPU",
            f"set FLOTILLA_TORCH_INDEX_URL={CPU_INDEX}, or pass --allow-cuda-packages, "
            "or bring ready-made artifacts: tools/models import MODEL FOLDER",
        )


def has_nvidia_gpu() -> bool:
    """Whether the NVIDIA driver is loaded on this machine."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


def _is_cuda(name: str) -> bool:
    plain = name.lower().replace("_", "-")
    return plain.startswith(("nvidia-", "cuda-", "pytorch-triton")) or plain == "triton"
