"""One real vision service for the tests of this folder."""

from collections.abc import AsyncIterator

import grpc
import pytest
from flotilla.vision.v1 import vision_pb2_grpc

from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tests.integration.service_process import ServiceProcess
from tests.integration.vision.process import vision_process


@pytest.fixture(scope="session")
def model_store() -> ModelStore:
    store = ModelStore(CommonSettings().model_store)
    for model in load_manifest().for_service("vision"):
        store.require(model.id, model.required_artifacts)  # fails with the command to run
    return store


@pytest.fixture(scope="session")
async def service(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    async with vision_process(tmp_path_factory.mktemp("vision")) as running:
        yield running


@pytest.fixture(scope="session")
async def channel(service: ServiceProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with service.channel() as open_channel:
        yield open_channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> "vision_pb2_grpc.VisionServiceAsyncStub":
    return vision_pb2_grpc.VisionServiceStub(channel)
