"""The images: build, sizes, bill of materials, lint, and a smoke test that needs no models."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem, console
from tools.containers.command import output
from tools.containers.compose import Compose
from tools.containers.tool_environment import program
from tools.model_preparation.progress import step

PREPARATION = "models"
DOCKERFILES = {
    **{name: f"services/{name}/Dockerfile" for name in ("llm", "embedding", "asr", "vision", "gateway")},
    PREPARATION: "tools/model_preparation/Dockerfile",
}
GOALS_MB = {"gateway": 120, "embedding": 350, "vision": 350, "llm": 450, "asr": 500}
"""Most megabytes of an image above its base and Python."""
USER = 10001
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
SHARED_STEP = "/src/install"
_SMOKE = """
import importlib, importlib.util, os, shutil, sys
importlib.import_module(sys.argv[1])
found = [name for name in ("torch", "pip", "tensorflow") if importlib.util.find_spec(name)]
found += [name for name in ("gcc", "cc", "pip", "curl") if shutil.which(name)]
print(os.getuid(), sys.argv[1], *found)
"""


@dataclass(frozen=True, slots=True)
class Size:
    """An image in megabytes: all of it, and what lies above the layers that all images share."""

    total_mb: float
    own_mb: float


def image(service: str) -> str:
    """Return the name of the image of a service, as compose.yaml has it."""
    return f"flotilla-{service}:latest"


def build(compose: Compose, services: Sequence[str]) -> dict[str, float]:
    """Build images one after the other and return the seconds each took."""
    seconds = {}
    for service in services:
        begin = time.monotonic()
        with step(f"Building {image(service)}"):
            compose("build", service)
        seconds[service] = time.monotonic() - begin
    return seconds


def size(service: str) -> Size:
    """Return the size of an image that is there."""
    history = output(
        "docker", "history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image(service)
    )
    layers = [line.split("\t", 1) for line in history.splitlines()]
    (shared,) = (
        index for index, (_, made_by) in enumerate(layers) if SHARED_STEP in made_by and "packages" not in made_by
    )
    bytes_of = [int(float(number)) for number, _ in layers]
    return Size(sum(bytes_of) / 1e6, sum(bytes_of[:shared]) / 1e6)


def print_sizes(services: Sequence[str], seconds: dict[str, float]) -> None:
    """Print a table of sizes and build times. Raises Problem when an image is larger than its goal."""
    table = Table("image", "in all, MB", "above base and Python, MB", "goal, MB", "built in, s")
    large = []
    for service in services:
        found, goal = size(service), GOALS_MB.get(service)
        took = f"{seconds[service]:.0f}" if service in seconds else ""
        table.add_row(image(service), f"{found.total_mb:.0f}", f"{found.own_mb:.0f}", str(goal or ""), took)
        if goal and found.own_mb > goal:
            large.append(f"{image(service)} has {found.own_mb:.0f} MB above its base, more than {goal}")
    console.print(table)
    if large:
        raise Problem("; ".join(large), "containers/packages/trim.py takes out what is not needed")


def smoke(service: str) -> None:
    """Prove that an image starts as it will be run: its user, a read-only root, its code and packages, no tools."""
    module = "tools.cli.__main__" if service == PREPARATION else f"services.{service}.__main__"
    run = ["docker", "run", "--rm", *HARDENED, "--tmpfs", "/tmp", "--entrypoint", "python3", image(service)]  # noqa: S108
    user, _, *unwanted = output(*run, "-c", _SMOKE, module).split()
    if int(user) != USER:
        raise Problem(f"{image(service)} runs as user {user}, not {USER}")
    if unwanted and service != PREPARATION:
        raise Problem(f"{image(service)} contains {', '.join(unwanted)}", "see containers/packages")
    config = json.loads(output("docker", "image", "inspect", "--format", "{{json .Config}}", image(service)))
    if service != PREPARATION and (config.get("StopSignal") != "SIGTERM" or "Healthcheck" not in config):
        raise Problem(f"{image(service)} has no healthcheck, or its stop signal is not SIGTERM")
    if config["Labels"].get("org.opencontainers.image.title") != f"flotilla-{service}":
        raise Problem(f"{image(service)} does not carry its name as an OCI label")


def lint() -> None:
    """Hold the Dockerfiles against hadolint's rules. Raises Problem."""
    output(str(program("hadolint")), *DOCKERFILES.values())


def bill_of_materials(service: str, folder: Path) -> Path:
    """Write the CycloneDX bill of materials of an image, system packages included; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"flotilla-{service}.cdx.json"
    quiet_update = {"SYFT_CHECK_FOR_APP_UPDATE": "false"}
    output(
        str(program("syft")),
        "scan",
        "--quiet",
        f"docker:{image(service)}",
        "-o",
        f"cyclonedx-json={path}",
        environment=quiet_update,
    )
    components = json.loads(path.read_text())["components"]
    console.print(f"{path.relative_to(REPOSITORY_ROOT)}: {len(components)} components", markup=False)
    return path
