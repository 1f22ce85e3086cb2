"""The peer infinity-emb (https://github.com/michaelfeil/infinity), served from an environment of its own."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from services.common.manifest import Model
from services.common.ports import free_ports
from tools.benchmark.peer_environment import environment, pinned
from tools.cli.console import Problem
from tools.fleet.settings import child_environment
from tools.model_preparation.sources import acquire

REQUIREMENTS = ("infinity-emb[torch,server]==0.0.78",)
START_SECONDS = 180


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
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(python.parent / "infinity_emb"),
            *("v2", "--model-id", str(weights), "--served-model-name", model.id, "--engine", "torch"),
            *("--host", "127.0.0.1", "--port", str(port), "--no-bettertransformer", "--no-model-warmup"),
            env=child_environment({"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_LOG_LEVEL": "error"}),
            stdout=log,
            stderr=log,
        )
        try:
            await _wait(f"http://127.0.0.1:{port}", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _wait(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(START_SECONDS * 4):
            if process.returncode is not None:
                break
            try:
                if (await client.get(f"{url}/models")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.25)
    raise Problem("infinity-emb has not started", f"see {log}")
