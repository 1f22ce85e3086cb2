"""The release of this installation."""

import tomllib
from importlib.metadata import PackageNotFoundError, version

from services.common.settings import REPOSITORY_ROOT


def release() -> str:
    """Return the version of the installed distribution, or of the checkout this runs from."""
    try:
        return version("flotilla")
    except PackageNotFoundError:
        project = REPOSITORY_ROOT / "pyproject.toml"
        return str(tomllib.loads(project.read_text())["project"]["version"]) if project.exists() else "0.0.0"
