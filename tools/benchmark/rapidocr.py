"""The peer RapidOCR (https://github.com/RapidAI/RapidOCR), in process in an environment of its own."""

from collections.abc import Callable
from pathlib import Path

from tools.benchmark.peer_environment import environment, pinned

PEER = ("rapidocr==3.10.0", "shapely==2.2.0")
SHARED = ("numpy", "onnxruntime", "opencv-python-headless", "pillow", "pyclipper")
"""What it runs on, in the versions that the service has."""


async def rapidocr(folder: Path, say: Callable[[str], None]) -> str:
    """Return the interpreter of an environment with RapidOCR, made in `folder` when it is not there."""
    return str(await environment(folder / "venv", [*PEER, *(f"{name}=={pinned(name)}" for name in SHARED)], say))
