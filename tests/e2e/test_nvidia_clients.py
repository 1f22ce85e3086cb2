"""What applications on NVIDIA's services use, unmodified, against the whole fleet; and what operators probe it with."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from langchain_core.documents import Document
from langchain_nvidia_ai_endpoints import ChatNVIDIA, NVIDIAEmbeddings, NVIDIARerank
from pydantic import BaseModel, Field

from tools.fleet.private import PrivateFleet

LANGUAGE, EMBEDDING = "smollm2-135m-instruct", "all-minilm-l6-v2"
SERVICES = (
    "flotilla.asr.v1.AsrService",
    "flotilla.embedding.v1.EmbeddingService",
    "flotilla.llm.v1.LlmService",
    "flotilla.vision.v1.VisionService",
    "inference.GRPCInferenceService",
    "nvidia.riva.asr.RivaSpeechRecognition",
)
# It warns of every model that is not in its own list.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:langchain_nvidia_ai_endpoints")
Chat = Callable[..., ChatNVIDIA]


class Ship(BaseModel):
    name: str = Field(max_length=12)
    masts: int = Field(ge=1, le=5)


@pytest.fixture
def chat(fleet: PrivateFleet, monkeypatch: pytest.MonkeyPatch) -> Chat:
    monkeypatch.setenv("NVIDIA_USAGE_TELEMETRY_ENABLED", "false")

    def client(**fields: object) -> ChatNVIDIA:
        fixed = {"base_url": f"{fleet.url}/v1", "model": LANGUAGE, "api_key": "none", "temperature": 0}
        return ChatNVIDIA(**{**fixed, **fields})

    return client


@pytest.fixture
def channel(fleet: PrivateFleet) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{fleet.process('gateway').grpc_port}") as open_channel:
        yield open_channel


def test_chat_nvidia_says_the_same_whole_and_streamed(chat: Chat) -> None:
    model = chat(max_completion_tokens=12)
    whole = model.invoke("Tell me about the sea.")
    assert whole.content
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 12
    assert "".join(str(piece.content) for piece in model.stream("Tell me about the sea.")) == whole.content


def test_chat_nvidia_gets_what_fits_a_schema(chat: Chat) -> None:
    assert isinstance(chat(max_completion_tokens=60).with_structured_output(Ship).invoke("Describe a ship."), Ship)


def test_chat_nvidia_is_refused_what_the_model_does_not_take(chat: Chat) -> None:
    with pytest.raises(Exception, match="context is 8192 tokens"):
        chat(max_completion_tokens=100_000).invoke("hi")


def test_embeddings_and_ranking_find_what_is_asked_for(fleet: PrivateFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_USAGE_TELEMETRY_ENABLED", "false")
    texts = ["Cheese is made of milk", "Paris is the capital of France", "Ships sail on the sea"]
    place = {"base_url": f"{fleet.url}/v1", "model": EMBEDDING, "api_key": "none"}
    client = NVIDIAEmbeddings(**place, truncate="END")
    query = client.embed_query("capital of France")
    near = [sum(a * b for a, b in zip(query, vector, strict=True)) for vector in client.embed_documents(texts)]
    assert near.index(max(near)) == 1
    best, *_ = NVIDIARerank(**place, top_n=2).compress_documents(
        [Document(text) for text in texts], "capital of France"
    )
    assert best.page_content == texts[1]


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_a_health_probe(channel: grpc.Channel, service: str) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_health_probe_of_what_is_not_there(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_and_describes_every_service(channel: grpc.Channel) -> None:
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    asked += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=service) for service in SERVICES]
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed, *described = stub.ServerReflectionInfo(iter(asked), timeout=10)
    assert {row.name for row in listed.list_services_response.service} >= {*SERVICES, "grpc.health.v1.Health"}
    for answer in described:
        assert answer.file_descriptor_response.file_descriptor_proto
