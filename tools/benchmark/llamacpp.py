"""The peer llama.cpp (PyPI xllamacpp) on the same GGUF file, served over HTTP from an environment of its own."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.ports import free_ports
from tools.benchmark.peer_environment import environment
from tools.benchmark.peer_process import PeerPlace, PeerProcess, peer_process
from tools.model_preparation.sources import acquire

REQUIREMENTS = ("xllamacpp==2026.10.11549",)
SLOT_TOKENS = 1024
SERVER = Path(__file__).with_name("llamacpp_server.py")


@asynccontextmanager
async def llamacpp(place: PeerPlace, threads: int) -> AsyncIterator[PeerProcess]:
    """Serve a model with llama.cpp."""
    python = await environment(place.folder / "venv", REQUIREMENTS, place.say)
    file = gguf_file(place)
    (port,) = free_ports(1)
    place.say("starting llama.cpp")
    numbers = (port, place.slots, place.slots * SLOT_TOKENS, threads)
    command = (str(python), str(SERVER), str(file), *map(str, numbers))
    async with peer_process(command, port, place.folder / "log") as peer:
        yield peer


def gguf_file(place: PeerPlace) -> Path:
    """Return the model's GGUF file, brought from the model's source where it is not there."""
    folder = place.folder / "model"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.folder) as scratch:
        acquire(place.model, folder, Path(scratch), place.base)
    return next(folder / file.name for file in place.model.files if file.name.endswith(".gguf"))
