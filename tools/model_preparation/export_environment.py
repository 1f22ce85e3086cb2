"""The throw-away environments that exporters run in, one extra of pyproject.toml each; one exists at a time.

Never installs CUDA packages unasked.
"""

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.model_preparation.commands import pip, run
from tools.model_preparation.progress import step

ENVIRONMENT_BYTES = {
    "export": 2_000_000_000,
    "export-onnx": 400_000_000,
    "export-tensorflow": 2_500_000_000,
    "export-llm": 700_000_000,
    "export-speech": 600_000_000,
    "engines-precision": 2_000_000_000,
    "engines-tensorrt-rtx": 700_000_000,
}
"""Room that the packages of an extra take, downloads included."""
TORCH = "torch"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(slots=True)
class ExportEnvironments:
    """Builds the environment that is asked for in a scratch folder, once for all models that need it in a row."""

    scratch: Path
    index_url: str | None
    allow_cuda: bool
    _extra: str | None = field(default=None, init=False)

    @property
    def python(self) -> Path:
        """Interpreter of the environment, whether it exists or not."""
        return self._folder / "bin" / "python"

    @property
    def _folder(self) -> Path:
        return self.scratch / "environment"

    def bytes_for(self, extra: str) -> int:
        """Return the room that building takes: none when the environment is the present one."""
        return 0 if extra == self._extra else ENVIRONMENT_BYTES[extra]

    def interpreter(self, extra: str) -> Path:
        """Return the interpreter of an environment with the packages of the extra, and delete the one before it."""
        if extra != self._extra:
            self.clear()
            self._build(extra)
            self._extra = extra
        return self.python

    def clear(self) -> None:
        """Delete the present environment."""
        self._extra = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _build(self, extra: str) -> None:
        requirements = export_requirements(extra)
        has_torch = TORCH in {Requirement(text).name for text in requirements}
        options = ["--constraint", str(REPOSITORY_ROOT / "constraints.txt")]
        if has_torch and self.index_url:
            options += ["--extra-index-url", self.index_url]
        with step(f"Creating a temporary environment for the export ({extra})") as current:
            code, lines = run([sys.executable, "-m", "venv", "--without-pip", self._folder], current.show)
            if code != 0:
                raise Problem(f"cannot create an environment: {lines[-1] if lines else code}", "install python3-venv")
        if has_torch and not self.allow_cuda and not has_nvidia_gpu():
            self._refuse_cuda(options)
        with step(f"Installing {', '.join(requirements)} into it (not kept)") as current:
            install = ["install", "--no-compile", "--progress-bar", "off", *options, *requirements]
            pip(install, "the export tools", self.scratch / "tmp", current.show, target=self.python)

    def _refuse_cuda(self, options: Sequence[str]) -> None:
        with step("Asking the package index which torch it offers") as current:
            report = self.scratch / "report.json"
            # Where an index has no separate metadata, pip downloads what it resolves, even in a dry run: hence no
            # dependencies, and of torch itself only the end of the file (the feature of the pip we pin).
            dry = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--use-feature=fast-deps"]
            dry += ["--report", str(report), *options, TORCH]
            pip(dry, TORCH, self.scratch / "tmp", current.show, target=self.python)
            refuse_cuda(requirements_of(report))


@contextmanager
def export_environments(scratch: Path, index_url: str | None, *, allow_cuda: bool) -> Iterator[ExportEnvironments]:
    """Give the environments, and delete what was built afterwards whatever happens."""
    environments = ExportEnvironments(scratch, index_url, allow_cuda)
    try:
        yield environments
    finally:
        environments.clear()


def export_requirements(extra: str) -> list[str]:
    """Return the requirements of an extra in pyproject.toml."""
    document = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(document["project"]["optional-dependencies"][extra])


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
