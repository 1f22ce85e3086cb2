"""The release of this installation."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("flotilla")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0.0.0"
