"""The peer infinity-emb (https://github.com/michaelfeil/infinity), served from an environment of its own."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.manifest import Model
from services.common.ports import free_ports
from tools.benchmark.peer_environment import environment, pinned
from tools.benchmark.peer_process import peer_process
from tools.model_preparation.sources import acquire

REQUIREMENTS = ("infinity-emb[torch,server]==0.0.78",)


@asynccontextmanager
async def infinity(model: Model, base: Path, folder: Path, say: Callable[[str], None]) -> AsyncIterator[str]:
    """Serve `model` with infinity-emb on a free loopback port; yield its URL.

    Relative folder sources of the model count from `base`. The environment in `folder` is kept.
    """
    python = await environment(folder / "venv", [*REQUIREMENTS, f"torch=={pinned('torch')}"], say)
    weights = folder / "model"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        acquire(model, weights, Path(scratch), base)
    (port,) = free_ports(1)
    say("starting infinity-emb")
    command = (
        str(python.parent / "infinity_emb"),
        *("v2", "--model-id", str(weights), "--served-model-name", model.id, "--engine", "torch"),
        *("--host", "127.0.0.1", "--port", str(port), "--no-bettertransformer", "--no-model-warmup"),
    )
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_LOG_LEVEL": "error"}
    async with peer_process(command, port, folder / "log", quiet, health="/models") as peer:
        peer.resume()
        yield peer.url
