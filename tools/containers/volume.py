"""The volume of models: filled by the preparation container, or from a store of this machine."""

import subprocess
import tarfile
from pathlib import Path
from typing import IO, cast

from tools.cli.console import Problem
from tools.containers.command import output
from tools.containers.compose import Compose
from tools.containers.images import image
from tools.model_preparation.progress import step

WHEELS = """services:
  models:
    environment: {PIP_FIND_LINKS: /wheels}
    volumes: ["%s:/wheels:ro"]
"""
"""Override of compose.yaml that gives model preparation a folder of wheels beside its index."""


def prepare(compose: Compose) -> None:
    """Run the preparation container to its end, its output shown."""
    compose.show("run", "--rm", "--no-deps", "models")


def copy_store(store: Path, volume: str, project: str, service: str) -> None:
    """Copy a model store into a new volume of a compose project, with the image of a service. Raises Problem."""
    if not (store / "models").is_dir():
        raise Problem(f"{store} is no model store", "tools/models fetch makes one, or leave --models-from out")
    labels = (f"com.docker.compose.project={project}", "com.docker.compose.volume=models")
    output("docker", "volume", "create", *(part for label in labels for part in ("--label", label)), volume)
    command = ["docker", "run", "--rm", "--interactive", "--network", "none", "--volume", f"{volume}:/models"]
    command += ["--entrypoint", "tar", image(service), "--extract", "--no-same-owner", "--directory", "/models"]
    with step(f"Copying {store} into the volume {volume}"):
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        with tarfile.open(fileobj=cast("IO[bytes]", process.stdin), mode="w|") as archive:
            for name in ("blobs", "models"):
                archive.add(store / name, arcname=name)
        assert process.stdin is not None  # noqa: S101 - asked for with PIPE
        process.stdin.close()
        if process.wait():
            raise Problem(f"{store} could not be copied into the volume {volume}", "free some space")
