"""One real LLM service for these tests. Without its model they fail and say how to get it."""

from collections.abc import AsyncIterator

import grpc
import pytest
from flotilla.llm.v1 import llm_pb2_grpc

from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from services.llm.tokenizer import TextTokenizer
from tests.integration.llm.calls import MODEL
from tests.integration.service_process import ServiceProcess


@pytest.fixture(scope="session")
def store() -> ModelStore:
    made = ModelStore(CommonSettings().model_store)
    made.require(MODEL, load_manifest().model(MODEL).required_artifacts)
    return made


@pytest.fixture(scope="session")
async def service(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    async with ServiceProcess(tmp_path_factory.mktemp("llm"), name="llm") as running:
        yield running


@pytest.fixture(scope="session")
async def channel(service: ServiceProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with service.channel() as open_channel:
        yield open_channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> "llm_pb2_grpc.LlmServiceAsyncStub":
    return llm_pb2_grpc.LlmServiceStub(channel)


@pytest.fixture(scope="session")
def tokenizer(store: ModelStore) -> TextTokenizer:
    return TextTokenizer(store.artifact(MODEL, "tokenizer.json"), 49152)
