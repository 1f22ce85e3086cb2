"""The unmodified NVIDIAEmbeddings and NVIDIARerank of langchain-nvidia-ai-endpoints."""

import asyncio

import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb
from langchain_core.documents import Document
from langchain_nvidia_ai_endpoints import NVIDIAEmbeddings, NVIDIARerank

from tests.integration.gateway.fake_embedding import MODEL, FakeEmbedding, vector
from tests.integration.gateway.gateway import Gateway

# It warns of every model that is not in its own list.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:langchain_nvidia_ai_endpoints")


@pytest.fixture
def url(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NVIDIA_USAGE_TELEMETRY_ENABLED", "false")
    return f"http://127.0.0.1:{gateway.http_port}/v1"


async def test_embeddings(url: str, embedding: FakeEmbedding) -> None:
    def use() -> tuple[list[float], list[list[float]]]:
        client = NVIDIAEmbeddings(base_url=url, model=MODEL, api_key="none", truncate="END")
        return client.embed_query("hi"), client.embed_documents(["a", "bc"])

    query, documents = await asyncio.to_thread(use)
    assert query == pytest.approx(vector("hi").tolist())
    assert documents == [pytest.approx(vector(text).tolist()) for text in ("a", "bc")]
    first, second = embedding.requests
    assert (first.input_type, second.input_type) == (pb.INPUT_TYPE_QUERY, pb.INPUT_TYPE_PASSAGE)
    assert first.truncate == second.truncate == pb.TRUNCATE_END


async def test_ranking(url: str, embedding: FakeEmbedding) -> None:
    """The fake ranks long passages first."""

    def use() -> list[Document]:
        client = NVIDIARerank(base_url=url, model=MODEL, api_key="none", top_n=2)
        texts = ("short", "the longest of them", "longer one")
        return list(client.compress_documents([Document(text) for text in texts], "which?"))

    found = await asyncio.to_thread(use)
    assert [document.page_content for document in found] == ["the longest of them", "longer one"]
    assert [document.metadata["relevance_score"] for document in found] == [19, 10]
    assert embedding.requests[-1].query == "which?"


async def test_refusals_are_raised(url: str) -> None:
    client = await asyncio.to_thread(lambda: NVIDIAEmbeddings(base_url=url, model=MODEL, api_key="none"))
    with pytest.raises(Exception, match=r"input\[0\] is empty"):
        await asyncio.to_thread(client.embed_query, "")
