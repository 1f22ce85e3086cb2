"""The clients that applications have, unmodified, against the whole running fleet."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import numpy as np
import openai
import pytest
import tritonclient.grpc as triton
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc

from services.common.manifest import load_manifest
from tools.fleet.private import PrivateFleet

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "tests" / "data" / "minilm_reference.npz"
MODEL = "all-minilm-l6-v2"


@pytest.fixture(scope="session")
def reference() -> tuple[list[str], np.ndarray]:
    """Return 220 varied texts and the vectors of sentence-transformers for them."""
    with np.load(REFERENCE, allow_pickle=False) as data:
        return [str(text) for text in json.loads(str(data["texts"]))], data["vectors"]


@pytest.fixture
def client(fleet: PrivateFleet):
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none") as client:
        yield client


@pytest.fixture
def gateway_grpc(fleet: PrivateFleet):
    return f"127.0.0.1:{fleet.process('gateway').grpc_port}"


def over_http(client: openai.OpenAI, texts: list[str]) -> np.ndarray:
    answer = client.embeddings.create(model=MODEL, input=texts, extra_body={"truncate": "END"})
    return np.array([item.embedding for item in answer.data], dtype=np.float32)


def over_grpc(address: str, texts: list[str]) -> np.ndarray:
    with grpc.insecure_channel(address) as channel:
        request = pb.EmbedRequest(model=MODEL, inputs=[pb.Input(text=text) for text in texts], truncate=pb.TRUNCATE_END)
        answer = embedding_pb2_grpc.EmbeddingServiceStub(channel).Embed(request)
    return np.stack([np.frombuffer(item.data, "<f4") for item in answer.embeddings])


def over_kserve(address: str, texts: list[str]) -> np.ndarray:
    with triton.InferenceServerClient(address) as client:
        rows = []
        for start in range(0, len(texts), 32):
            part = np.array([[text.encode()] for text in texts[start : start + 32]], dtype=np.object_)
            tensor = triton.InferInput("text", list(part.shape), "BYTES")
            tensor.set_data_from_numpy(part)
            rows.append(client.infer("all_minilm_l6_v2_text", [tensor]).as_numpy("sentence_embedding"))
    return np.concatenate(rows)


def test_vectors_are_the_same_over_every_protocol_and_equal_the_original(fleet, client, gateway_grpc, reference):
    texts, expected = reference
    assert len(texts) >= 200
    direct = f"127.0.0.1:{fleet.process('embedding').grpc_port}"
    found = {
        "http": over_http(client, texts),
        "grpc through the gateway": over_grpc(gateway_grpc, texts),
        "grpc of the service": over_grpc(direct, texts),
        "kserve through the gateway": over_kserve(gateway_grpc, texts),
        "kserve of the service": over_kserve(direct, texts),
    }
    for path, vectors in found.items():
        cosines = (vectors * expected).sum(axis=1)
        assert cosines.min() >= 0.9999, (path, texts[int(cosines.argmin())][:80], cosines.min())
    for path, vectors in found.items():  # batches differ, so the last bits may
        np.testing.assert_allclose(vectors, found["http"], atol=2e-6, err_msg=path)


def test_openai_client_gets_floats_base64_and_usage(client):
    default = client.embeddings.create(model=MODEL, input="one text")
    floats = client.embeddings.create(model=MODEL, input="one text", encoding_format="float")
    assert default.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-6)
    assert default.usage.prompt_tokens == default.usage.total_tokens == 4
    assert {model.id for model in client.models.list()} == set(load_manifest().models)
    assert client.models.retrieve(MODEL).id == MODEL


def test_token_ids_are_the_same_as_their_text(client):
    text = client.embeddings.create(model=MODEL, input="hello world").data[0].embedding
    for ids in ([7592, 2088], [[7592, 2088]], [[101, 7592, 2088, 102]]):
        assert client.embeddings.create(model=MODEL, input=ids).data[0].embedding == pytest.approx(text, abs=1e-6)


def test_openai_client_sees_typed_errors(client):
    with pytest.raises(openai.NotFoundError, match=MODEL) as missing:
        client.embeddings.create(model="gpt-5", input="x")
    assert missing.value.body["code"] == "model_not_found"
    for bad in ("", [], [""], [[]], ["a"] * 2049, "word " * 300):
        with pytest.raises(openai.BadRequestError) as refused:
            client.embeddings.create(model=MODEL, input=bad)
        assert refused.value.body["param"].startswith("input"), (str(bad)[:20], refused.value.body)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL, input="x", dimensions=100)
    assert refused.value.body["param"] == "dimensions"
    assert len(client.embeddings.create(model=MODEL, input="still here").data) == 1


def test_ranking_in_both_shapes(fleet):
    passages = ["Berlin is in Germany", "Paris is the capital of France", "Cheese is made of milk"]
    with httpx.Client(base_url=fleet.url, trust_env=False) as http:
        nim = http.post(
            "/v1/ranking",
            json={
                "model": MODEL,
                "query": {"text": "capital of France"},
                "passages": [{"text": text} for text in passages],
            },
        ).json()
        rerank = http.post(
            "/v1/rerank",
            json={"model": MODEL, "query": "capital of France", "documents": passages, "top_n": 2},
        ).json()
    assert [row["index"] for row in nim["rankings"]] == [1, 0, 2]
    assert [row["index"] for row in rerank["results"]] == [1, 0]
    assert rerank["results"][0]["relevance_score"] == pytest.approx(nim["rankings"][0]["logit"])


def test_tritonclient_sees_a_triton(gateway_grpc):
    with triton.InferenceServerClient(gateway_grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("all_minilm_l6_v2")
        metadata = client.get_model_metadata("all_minilm_l6_v2")
        assert [tensor.name for tensor in metadata.inputs] == ["input_ids", "attention_mask"]
        names = {model.name for model in client.get_model_repository_index().models}
        assert {"all_minilm_l6_v2", "all_minilm_l6_v2_text"} <= names


def test_the_example_of_the_readme_runs(gateway_grpc):
    command = [sys.executable, "-P", str(ROOT / "examples" / "embeddings_grpc.py"), gateway_grpc]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"{MODEL}: 384 dimensions, cosine 0.")


def test_base64_is_little_endian_float32(fleet):
    with httpx.Client(base_url=fleet.url, trust_env=False) as http:
        body = {"model": MODEL, "input": "x", "encoding_format": "base64"}
        answer = http.post("/v1/embeddings", json=body).json()
    vector = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    assert vector.shape == (384,)
    assert float(vector @ vector) == pytest.approx(1, abs=1e-5)
