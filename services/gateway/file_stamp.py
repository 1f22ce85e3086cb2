"""Whether files have changed, without reading them."""

from pathlib import Path

Stamp = tuple[tuple[int, int, int], ...]


def stamp_of(*files: Path) -> Stamp:
    """Return what differs once a file has changed, or is a link that leads elsewhere, as in Kubernetes.

    Raises OSError.
    """
    found = [file.stat() for file in files]
    return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)
