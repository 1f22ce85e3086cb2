"""Every method that the fleet forwards says which model it is for, or lists models."""

from typing import Any

import pytest
from flotilla.asr.v1 import asr_pb2
from flotilla.embedding.v1 import embedding_pb2
from flotilla.llm.v1 import llm_pb2
from flotilla.vision.v1 import vision_pb2

from services.common.triton import service_pb2
from services.gateway.access.contents import (
    AUDIO_SECONDS,
    IMAGES,
    TOKENS,
    estimate,
    models_in,
    progress_in,
    shape_of,
    usage_in,
)

CONTRACTS = (llm_pb2, embedding_pb2, vision_pb2, asr_pb2)
METHODS = [
    f"/{service.full_name}/{method.name}"
    for contract in CONTRACTS
    for service in contract.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def shape(method: str) -> Any:
    found = shape_of(method)
    assert found is not None
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_names_its_model_or_lists_models(method: str) -> None:
    assert bool(shape(method).models) != method.endswith("/ListModels")


@pytest.mark.parametrize(
    ("method", "request_", "names"),
    [
        ("/flotilla.llm.v1.LlmService/Chat", llm_pb2.ChatRequest(model="a"), ["a"]),
        (
            "/flotilla.llm.v1.LlmService/Tokenize",
            llm_pb2.TokenizeRequest(model="a", chat=llm_pb2.ChatRequest(model="b")),
            ["a"],
        ),
        (
            "/flotilla.vision.v1.VisionService/InferStream",
            vision_pb2.InferStreamRequest(detect=vision_pb2.DetectRequest(model="a")),
            ["a"],
        ),
        (
            "/flotilla.asr.v1.AsrService/Transcribe",
            asr_pb2.TranscribeRequest(config=asr_pb2.TranscriptionConfig(model="a")),
            ["a"],
        ),
        ("/flotilla.asr.v1.AsrService/TranscribeFile", asr_pb2.TranscribeFileRequest(audio=b"1"), []),
        ("/inference.GRPCInferenceService/ModelInfer", service_pb2.ModelInferRequest(model_name="a", id="b"), ["a"]),
        ("/inference.GRPCInferenceService/ModelReady", service_pb2.ModelReadyRequest(name="a"), ["a"]),
    ],
)
def test_models(method: str, request_: Any, names: list[str]) -> None:
    assert models_in(shape(method), request_) == names


def test_models_of_riva_are_in_the_configuration() -> None:
    from riva.client.proto import riva_asr_pb2 as riva

    request = riva.StreamingRecognizeRequest()
    request.streaming_config.config.model = "a"
    found = shape("/nvidia.riva.asr.RivaSpeechRecognition/StreamingRecognize")
    assert (models_in(found, request), found.nested, found.units) == (["a"], True, {AUDIO_SECONDS})
    response = riva.StreamingRecognizeResponse(results=[riva.StreamingRecognitionResult(audio_processed=2.5)])
    assert progress_in(found, response) == {AUDIO_SECONDS: 2.5}


def test_usage() -> None:
    chat = shape("/flotilla.llm.v1.LlmService/Chat")
    assert usage_in(chat, llm_pb2.ChatResponse(text="a")) is None
    usage = llm_pb2.Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2)
    assert usage_in(chat, llm_pb2.ChatResponse(usage=usage)) == {TOKENS: 8}
    assert progress_in(chat, llm_pb2.ChatResponse(tokens=[1, 2])) == {TOKENS: 2}
    file = shape("/flotilla.asr.v1.AsrService/TranscribeFile")
    summary = asr_pb2.Summary(usage=asr_pb2.Usage(audio_seconds=1.5, output_tokens=4))
    assert usage_in(file, asr_pb2.TranscribeFileResponse(summary=summary)) == {AUDIO_SECONDS: 1.5}
    infer = shape("/flotilla.vision.v1.VisionService/InferStream")
    assert usage_in(infer, vision_pb2.InferStreamResponse(usage=vision_pb2.Usage(images=3))) == {IMAGES: 3}


def test_estimates() -> None:
    chat = shape("/flotilla.llm.v1.LlmService/Chat")
    request = llm_pb2.ChatRequest(messages=[llm_pb2.Message(content="x" * 400)])
    least, most = estimate(chat, request)
    assert 100 <= least[TOKENS] <= 105
    assert most == least
    request.sampling.max_tokens, request.sampling.n = 50, 2
    assert estimate(chat, request)[1][TOKENS] >= 200
    infer = shape("/flotilla.vision.v1.VisionService/InferStream")
    images = [vision_pb2.Image(data=b"1")] * 3
    assert estimate(infer, vision_pb2.InferStreamRequest(detect=vision_pb2.DetectRequest(images=images)))[0] == {
        IMAGES: 3
    }


def test_unknown_methods_have_no_shape() -> None:
    assert shape_of("/no.Such/Thing") is None
    assert shape_of("/flotilla.llm.v1.LlmService/Nope") is None
