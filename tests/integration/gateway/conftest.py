from collections.abc import AsyncIterator

import pytest

from tests.integration.gateway.fake_asr import FakeAsr
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.fake_llm import FakeLlm
from tests.integration.gateway.fake_vision import FakeVision
from tests.integration.gateway.gateway import Gateway, running


@pytest.fixture
async def embedding() -> AsyncIterator[FakeEmbedding]:
    async with FakeEmbedding().running() as fake:
        yield fake


@pytest.fixture
async def gateway(embedding: FakeEmbedding) -> AsyncIterator[Gateway]:
    async with running(embedding.address) as started:
        yield started


@pytest.fixture
async def vision() -> AsyncIterator[FakeVision]:
    async with FakeVision().running() as fake:
        yield fake


@pytest.fixture
async def vision_gateway(vision: FakeVision) -> AsyncIterator[Gateway]:
    """A gateway in front of a vision service alone."""
    async with running(vision_addresses=vision.address) as started:
        yield started


@pytest.fixture
async def llm() -> AsyncIterator[FakeLlm]:
    async with FakeLlm().running() as fake:
        yield fake


@pytest.fixture
async def llm_gateway(llm: FakeLlm) -> AsyncIterator[Gateway]:
    """A gateway in front of an llm service alone."""
    async with running(llm_addresses=llm.address) as started:
        yield started


@pytest.fixture
async def asr() -> AsyncIterator[FakeAsr]:
    async with FakeAsr().running() as fake:
        yield fake


@pytest.fixture
async def asr_gateway(asr: FakeAsr, embedding: FakeEmbedding) -> AsyncIterator[Gateway]:
    """A gateway in front of a speech service, and of an embedding service that takes no audio."""
    async with running(embedding.address, asr_addresses=asr.address) as started:
        yield started
