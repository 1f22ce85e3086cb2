"""Clients whose packages do not go together with ours, each in an environment of its own that is made once and kept."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from flotilla.embedding.v1 import embedding_pb2

from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tests.integration.gateway.fake_embedding import DIMENSIONS, MODEL, FakeEmbedding, vector
from tests.integration.gateway.fake_llm import MODEL as LANGUAGE_MODEL
from tests.integration.gateway.gateway import Gateway
from tools.benchmark.peer_environment import environment, pinned

# It imports the SDK of OpenAI and does not say so.
LLAMA_INDEX = ("llama-index-embeddings-nvidia==0.6.0", "llama-index-core==0.14.25", f"openai=={pinned('openai')}")
AIPERF = ("aiperf==0.13.0",)
SCRIPT = Path(__file__).parent / "clients" / "llama_index_embeddings.py"
REQUESTS = 5
# Making the environments takes minutes and 1.5 GB.
pytestmark = pytest.mark.timeout(1200)


async def interpreter(requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with these packages."""
    name = requirements[0].replace("==", "-")
    return await environment(CommonSettings().state_dir.resolve() / "clients" / name, requirements, print)


async def output_of(*command: str) -> str:
    """What a command prints; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, (output + errors).decode()[-3000:]
    return output.decode()


async def test_embeddings_of_llama_index(gateway: Gateway, embedding: FakeEmbedding) -> None:
    python = await interpreter(LLAMA_INDEX)
    url = f"http://127.0.0.1:{gateway.http_port}/v1"
    found = json.loads(await output_of(str(python), str(SCRIPT), url, MODEL))
    assert found["models"] == [MODEL]
    assert found["query"] == found["later"] == pytest.approx(vector("hi").tolist())
    assert found["texts"] == [pytest.approx(vector(text).tolist()) for text in ("a", "bc")]
    sides = [request.input_type for request in embedding.requests]
    query, passage = embedding_pb2.INPUT_TYPE_QUERY, embedding_pb2.INPUT_TYPE_PASSAGE
    assert sides == [passage, passage, query]  # it calls a query a passage, but not when it waits for it
    assert len(found["query"]) == DIMENSIONS


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer as Hugging Face's libraries read it: else aiperf would download one."""
    store = ModelStore(CommonSettings().model_store)
    folder = tmp_path_factory.mktemp("tokenizer")
    shutil.copy(store.artifact("smollm2-135m-instruct", "tokenizer.json"), folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


async def profile(gateway: Gateway, tokenizer: Path, results: Path, *options: str) -> dict[str, Any]:
    """Run aiperf for a few requests; return its results."""
    python = await interpreter(AIPERF)
    fixed = [
        "--request-count",
        str(REQUESTS),
        "--concurrency",
        "2",
        "--ui",
        "none",
        "--synthetic-input-tokens-mean",
        "20",
    ]
    place = ["--tokenizer", str(tokenizer), "--output-artifact-dir", str(results)]
    url = f"http://127.0.0.1:{gateway.http_port}"
    await output_of(str(python.with_name("aiperf")), "profile", "--url", url, *fixed, *place, *options)
    found: dict[str, Any] = json.loads((results / "profile_export_aiperf.json").read_text())
    return found


async def test_aiperf_on_chat(llm_gateway: Gateway, tokenizer: Path, tmp_path: Path) -> None:
    options = ["--model", LANGUAGE_MODEL, "--endpoint-type", "chat", "--streaming", "--output-tokens-mean", "8"]
    found = await profile(llm_gateway, tokenizer, tmp_path, *options)
    assert (found["request_count"]["avg"], found["error_summary"]) == (REQUESTS, [])
    assert found["time_to_first_token"]["avg"] > 0


async def test_aiperf_on_embeddings(gateway: Gateway, tokenizer: Path, tmp_path: Path) -> None:
    found = await profile(gateway, tokenizer, tmp_path, "--model", MODEL, "--endpoint-type", "embeddings")
    assert (found["request_count"]["avg"], found["error_summary"]) == (REQUESTS, [])


async def test_aiperf_on_rankings(gateway: Gateway, embedding: FakeEmbedding, tokenizer: Path, tmp_path: Path) -> None:
    sizes = ["--rankings-passages-mean", "3", "--rankings-passages-prompt-token-mean", "10"]
    found = await profile(gateway, tokenizer, tmp_path, "--model", MODEL, "--endpoint-type", "nim-rankings", *sizes)
    assert (found["request_count"]["avg"], found["error_summary"]) == (REQUESTS, [])
    assert embedding.requests[-1].passages
