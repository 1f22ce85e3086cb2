"""One real embedding service for all integration tests. Nothing is skipped: without models they fail and say how."""

from collections.abc import AsyncIterator

import grpc
import pytest

from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tests.integration.service_process import ServiceProcess

MODEL = "all-minilm-l6-v2"


@pytest.fixture(scope="session")
def model_store() -> ModelStore:
    store = ModelStore(CommonSettings().model_store)
    store.require(MODEL, ["model.onnx", "tokenizer.json", "selftest.json"])  # fails with the command to run
    return store


@pytest.fixture(scope="session")
async def service(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    async with ServiceProcess(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
async def channel(service: ServiceProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with service.channel() as open_channel:
        yield open_channel
