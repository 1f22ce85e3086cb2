"""The same request over OpenAI's HTTP, own gRPC and KServe: the same answer, or an error of the same kind."""

import io
import json
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flotilla.asr.v1 import asr_pb2, asr_pb2_grpc
from flotilla.embedding.v1 import embedding_pb2, embedding_pb2_grpc
from flotilla.llm.v1 import llm_pb2, llm_pb2_grpc
from flotilla.vision.v1 import vision_pb2, vision_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from riva.client.proto import riva_asr_pb2 as riva
from riva.client.proto import riva_asr_pb2_grpc as riva_grpc

from services.common.errors import Kind
from services.vision.classifier import central_square, softmax
from tests.e2e.protocols import Protocols, kinds, outcome, protocols
from tests.unit.asr.speech import JFK, RATE, samples_of
from tests.unit.vision.pictures import encoded
from tools.export.photographs import photographs
from tools.fleet.private import PrivateFleet

EMBEDDING, LANGUAGE, CLASSIFIER, SPEECH = (
    "all-minilm-l6-v2",
    "smollm2-135m-instruct",
    "efficientnet-lite0",
    "whisper-tiny.en",
)
NOWHERE = "no-such-model"
SIDE = 224
WORDS = st.lists(
    st.sampled_from(["sea", "ship", "Übersee", "帆船", "sail", "42", ",", ".", "and", "the", "Wind", "😀"]),
    min_size=1,
    max_size=12,
)
TEXT = WORDS.map(" ".join)
PHOTOGRAPHS = photographs()


def few(examples: int) -> settings:
    """Real models answer, so examples are few, and the same every time."""
    return settings(
        max_examples=examples, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )


@pytest.fixture(scope="module")
def over(fleet: PrivateFleet) -> Iterator[Protocols]:
    with protocols(fleet) as clients:
        yield clients


def triton_name(model: str) -> str:
    return model.replace("-", "_").replace(".", "_")


@few(25)
@given(
    texts=st.lists(TEXT | st.sampled_from(["", "word " * 400]), min_size=1, max_size=4),
    model=st.sampled_from([EMBEDDING] * 9 + [NOWHERE]),
)
def test_embeddings(over: Protocols, texts: list[str], model: str) -> None:
    def openai() -> Any:
        rows = over.post("/v1/embeddings", {"model": model, "input": texts, "truncate": "END"})["data"]
        return np.array([row["embedding"] for row in rows])

    def own() -> Any:
        inputs = [embedding_pb2.Input(text=text) for text in texts]
        request = embedding_pb2.EmbedRequest(model=model, inputs=inputs, truncate=embedding_pb2.TRUNCATE_END)
        answer = embedding_pb2_grpc.EmbeddingServiceStub(over.grpc).Embed(request)
        return np.stack([np.frombuffer(row.data, "<f4") for row in answer.embeddings])

    name, tensors = f"{triton_name(model)}_text", {"text": ("BYTES", texts)}
    found = {"openai": outcome(openai), "own": outcome(own)}
    if "" not in texts:  # the model itself takes it: that it is refused is the services' doing
        found["kserve http"] = outcome(lambda: over.infer_http(name, tensors, "sentence_embedding"))
        found["kserve grpc"] = outcome(lambda: over.infer_grpc(name, tensors, "sentence_embedding"))
    assert len(kinds(found)) == 1, (texts, found)
    if kinds(found) == {None}:
        for protocol, vectors in found.items():
            np.testing.assert_allclose(vectors, found["openai"], atol=2e-6, err_msg=protocol)


@few(8)
@given(prompt=TEXT, most=st.integers(1, 12), model=st.sampled_from([LANGUAGE] * 5 + [NOWHERE]))
def test_greedy_texts(over: Protocols, prompt: str, most: int, model: str) -> None:
    ids = over.post("/v1/tokenize", {"prompt": prompt})["tokens"]
    options = json.dumps({"max_new_tokens": most, "temperature": 0}).encode()
    name = triton_name(model)

    def openai() -> str:
        body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": most}
        return str(over.post("/v1/completions", body)["choices"][0]["text"])

    def own() -> str:
        sampling = llm_pb2.Sampling(temperature=0, max_tokens=most)
        request = llm_pb2.GenerateRequest(model=model, text=prompt, sampling=sampling)
        return "".join(piece.text for piece in llm_pb2_grpc.LlmServiceStub(over.grpc).Generate(request))

    def of_ids(answer: list[int]) -> str:
        return str(over.post("/v1/detokenize", {"tokens": answer})["prompt"]) if answer else ""

    def kserve_http() -> str:
        body = {"input_ids": ids, "options": list(options)}
        response = over.checked(over.http.post(f"/v2/models/{name}/generate_stream", json=body))
        answer: list[int] = []
        for line in response.text.split("\n\n")[:-1]:
            found = json.loads(line.removeprefix("data: "))["output_ids"]
            answer += found if isinstance(found, list) else [found]
        return of_ids(answer)

    def kserve_grpc() -> str:
        tensors = {
            "input_ids": ("INT32", np.array(ids, np.int32)),
            "options": ("UINT8", np.frombuffer(options, np.uint8)),
        }
        return of_ids(over.stream_grpc(name, tensors, "output_ids"))

    calls = {"openai": openai, "own": own, "kserve http": kserve_http}
    found = {protocol: outcome(call) for protocol, call in calls.items()}
    if model == LANGUAGE:
        found["kserve grpc"] = kserve_grpc()
    assert len(set(found.values())) == 1, (prompt, found)


@few(8)
@given(
    name=st.sampled_from(sorted(PHOTOGRAPHS)),
    size=st.tuples(st.integers(225, 400), st.integers(225, 400)),
    model=st.sampled_from([CLASSIFIER] * 5 + [NOWHERE]),
)
def test_classes(over: Protocols, name: str, size: tuple[int, int], model: str) -> None:
    picture = PHOTOGRAPHS[name].convert("RGB").resize(size)
    file = encoded(picture)
    pixels = central_square(np.asarray(picture), SIDE)[np.newaxis]

    def openai() -> tuple[int, float]:
        form: dict[str, Any] = {"files": {"file": ("a.png", file)}, "data": {"model": model, "top_k": "1"}}
        (row,) = over.checked(over.http.post("/v1/classify", **form)).json()["data"]
        (best,) = row["classifications"]
        return labels.index(best["label"]), best["score"]

    def own() -> tuple[int, float]:
        request = vision_pb2.ClassifyRequest(model=model, images=[vision_pb2.Image(data=file)], top_k=1)
        (best,) = vision_pb2_grpc.VisionServiceStub(over.grpc).Classify(request).results[0].classifications
        return best.class_index, best.score

    def best_of(logits: Any) -> tuple[int, float]:
        scores = softmax(logits[0])
        return int(scores.argmax()), float(scores.max())

    labels = labels_of(over)
    tensors = {"pixels": ("UINT8", pixels)}
    found = {
        "openai": outcome(openai),
        "own": outcome(own),
        "kserve http": outcome(lambda: best_of(over.infer_http(triton_name(model), tensors, "logits"))),
        "kserve grpc": outcome(lambda: best_of(over.infer_grpc(triton_name(model), tensors, "logits"))),
    }
    assert len(kinds(found)) == 1, found
    if kinds(found) == {None}:
        for protocol, (label, score) in found.items():
            assert label == found["openai"][0], (protocol, found)
            assert score == pytest.approx(found["openai"][1], abs=0.01), (protocol, found)


def labels_of(over: Protocols) -> list[str]:
    """The labels of the classifier by their numbers."""
    models = vision_pb2_grpc.VisionServiceStub(over.grpc).ListModels(vision_pb2.ListModelsRequest()).models
    return list(next(model.labels for model in models if model.id == CLASSIFIER))


@few(4)
@given(seconds=st.sampled_from([0, 4, 11]), model=st.sampled_from([SPEECH] * 3 + [NOWHERE]))
def test_transcripts(over: Protocols, seconds: int, model: str) -> None:
    """0 seconds: a file that is none."""
    file = wav(samples_of(JFK)[: seconds * RATE]) if seconds else b"no audio at all" * 100

    def openai() -> str:
        form: dict[str, Any] = {"files": {"file": ("a.wav", file)}, "data": {"model": model, "temperature": "0"}}
        return words(over.checked(over.http.post("/v1/audio/transcriptions", **form)).json()["text"])

    def own() -> str:
        config = asr_pb2.TranscriptionConfig(model=model, task=asr_pb2.TASK_TRANSCRIBE, temperature=0)
        requests = [asr_pb2.TranscribeFileRequest(config=config), asr_pb2.TranscribeFileRequest(audio=file)]
        answers = asr_pb2_grpc.AsrServiceStub(over.grpc).TranscribeFile(iter(requests))
        return words("".join(answer.segment.text for answer in answers))

    def of_riva() -> str:
        config = riva.RecognitionConfig(model=model, language_code="en-US", enable_automatic_punctuation=True)
        stub = riva_grpc.RivaSpeechRecognitionStub(over.grpc)
        answer = stub.Recognize(riva.RecognizeRequest(config=config, audio=file))
        return words(" ".join(result.alternatives[0].transcript for result in answer.results))

    found = {"openai": outcome(openai), "own": outcome(own), "riva": outcome(of_riva)}
    assert len(set(found.values())) == 1, found
    if seconds and model == SPEECH:
        assert found["openai"]
    else:
        assert kinds(found) == {Kind.NOT_FOUND if model == NOWHERE else Kind.INVALID_ARGUMENT}


def wav(samples: Any) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE)
        written.writeframes((samples * 32_767).astype("<i2").tobytes())
    return file.getvalue()


def words(text: str) -> str:
    """The words of a text alone."""
    return " ".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())
