"""The peer LiteLLM (https://github.com/BerriAI/litellm): its proxy, from an environment of its own."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.ports import free_ports
from tools.benchmark.peer_environment import environment
from tools.benchmark.peer_process import PeerProcess, peer_process

REQUIREMENTS = ("litellm[proxy]==1.98.1",)
KEY = "sk-benchmark"
_QUIET = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for one
    "HF_HUB_OFFLINE": "1",
}


@asynccontextmanager
async def litellm(
    folder: Path, backend: str, models: tuple[str, ...], say: Callable[[str], None]
) -> AsyncIterator[PeerProcess]:
    """Run the proxy in front of the OpenAI server at `backend`, with one worker. It asks for its master key.

    Virtual keys would need a database. The environment in `folder` is kept.
    """
    python = await environment(folder / "venv", REQUIREMENTS, say)
    settings = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "api_base": f"{backend}/v1", "api_key": "none"},
            }
            for name in models
        ],
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": KEY},
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    (port,) = free_ports(1)
    say("starting LiteLLM's proxy")
    command = (
        *(str(python.parent / "litellm"), "--config", str(config)),
        *("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False"),
    )
    async with peer_process(command, port, folder / "log", _QUIET, health="/health/liveliness") as peer:
        yield peer
