"""One LLM service on a stand-in for Triton's vLLM backend, in a store that says it has the weights for it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from services.common.runtime_repository import MODEL_REPOSITORY, read_config
from tests.integration.llm.calls import MODEL
from tests.integration.llm.engine_triton import GRAPH, TEXTS
from tests.integration.service_process import ServiceProcess
from tools.model_preparation.store_writer import StoreWriter

HERE = Path(__file__).parent
PROFILE = "vllm-bf16-tp1"


def stand_in(state: Path, store: ModelStore) -> None:
    """Put the backend where the service's Triton looks for backends, with what it computes with."""
    code = MODEL_REPOSITORY / "llm" / MODEL.replace("-", "_").replace(".", "_")
    engine, backend = state / "engine", state / "llm" / "backends" / "vllm"
    engine.mkdir()
    backend.mkdir(parents=True)
    for name in (*GRAPH, *TEXTS):
        (engine / name).symlink_to(store.artifact(MODEL, name))
    parameters = {key: value.string_value for key, value in read_config(code / "config.pbtxt").parameters.items()}
    (backend / "stand_in.json").write_text(
        json.dumps({"code": str(code), "engine": str(engine), "parameters": parameters})
    )
    (backend / "model.py").write_text((HERE / "backend.py").read_text())


def store_for_vllm(store: ModelStore, folder: Path) -> ModelStore:
    """A store with the model's artifacts and stand-ins for those of vLLM, whose weights are not read."""
    made = ModelStore(folder)
    artifacts = store.require(MODEL, load_manifest().model(MODEL).required_artifacts)
    weights = folder.with_name("weights")
    weights.write_bytes(b"weights")
    stored = store.model(MODEL)
    assert stored is not None
    more = {"vllm.safetensors": weights, "vllm_config.json": artifacts["config.json"]}
    StoreWriter(made).publish(MODEL, artifacts | more, stored.recipe)
    return made


@pytest.fixture(scope="module")
async def service(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    state = tmp_path_factory.mktemp("vllm")
    stand_in(state, store)
    environment = {
        "FLOTILLA_MODEL_STORE": str(store_for_vllm(store, state / "store").root),
        "FLOTILLA_LLM_PROFILE": PROFILE,
    }
    async with ServiceProcess(state, environment, "llm", "tests.integration.llm.vllm.service") as running:
        yield running


@pytest.fixture(scope="module")
async def channel(service: ServiceProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with service.channel() as open_channel:
        yield open_channel
