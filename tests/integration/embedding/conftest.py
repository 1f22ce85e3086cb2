import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2_grpc

from services.common.model_store import ModelStore
from services.embedding.tokenizer import TextTokenizer
from tests.integration.conftest import MODEL


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> "embedding_pb2_grpc.EmbeddingServiceAsyncStub":
    return embedding_pb2_grpc.EmbeddingServiceStub(channel)


@pytest.fixture(scope="session")
def tokenizer(model_store: ModelStore) -> TextTokenizer:
    return TextTokenizer(model_store.artifact(MODEL, "tokenizer.json"), 256, 30522)
