"""One real ASR service for the tests of this folder."""

from collections.abc import AsyncIterator

import grpc
import pytest
from flotilla.asr.v1 import asr_pb2_grpc

from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tests.integration.asr.process import asr_process
from tests.integration.service_process import ServiceProcess


@pytest.fixture(scope="session")
def model_store() -> ModelStore:
    store = ModelStore(CommonSettings().model_store)
    for model in load_manifest().for_service("asr"):
        store.require(model.id, model.required_artifacts)  # fails with the command to run
    return store


@pytest.fixture(scope="session")
async def service(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    async with asr_process(tmp_path_factory.mktemp("asr")) as running:
        yield running


@pytest.fixture(scope="session")
async def channel(service: ServiceProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with service.channel() as open_channel:
        yield open_channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> "asr_pb2_grpc.AsrServiceAsyncStub":
    return asr_pb2_grpc.AsrServiceStub(channel)


@pytest.fixture(scope="session")
async def small(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    """A service with tight limits for live streams."""
    limits = {
        "FLOTILLA_ASR_MAX_STREAMS": "2",
        "FLOTILLA_ASR_MAX_AUDIO_SECONDS": "30",
        "FLOTILLA_ASR_STREAM_IDLE_SECONDS": "2",
    }
    async with asr_process(tmp_path_factory.mktemp("small"), limits) as running:
        yield running


@pytest.fixture
async def small_stub(small: ServiceProcess) -> "AsyncIterator[asr_pb2_grpc.AsrServiceAsyncStub]":
    async with small.channel() as open_channel:
        yield asr_pb2_grpc.AsrServiceStub(open_channel)
