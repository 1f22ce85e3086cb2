"""Raw KServe v2 on the ASR service's own port: windows of sound in, tokens out."""

import numpy as np
import pytest

from services.asr.model import contract
from services.asr.repository import VOCABULARY
from services.asr.vocabulary import Vocabulary
from services.common.errors import Kind, ServiceError
from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from services.common.triton import TritonClient
from tests.integration.asr.engine_triton import BASE, TEXT, speech, window_of
from tests.integration.service_process import ServiceProcess

NUMBERS = {"frames": 530, "beam_size": 1, "alternatives": 1, "max_new_tokens": 60}


def tensors(vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    mel = window_of(speech(), []).mel[None]
    return {
        "mel": mel,
        "prompt": np.array([vocabulary.prompt("en")], dtype=np.int32),
        "temperature": np.zeros((1, 1), dtype=np.float32),
        **{name: np.full((1, 1), value, dtype=np.int32) for name, value in NUMBERS.items()},
        **{name: np.zeros((1, 1), dtype=np.uint8) for name in ("word_times", "detect_language")},
    }


@pytest.fixture(scope="module")
def vocabulary(model_store: ModelStore) -> Vocabulary:
    return Vocabulary(model_store.artifact(BASE, VOCABULARY), multilingual=True)


async def test_a_window_is_read(service: ServiceProcess, vocabulary: Vocabulary) -> None:
    name = load_manifest().model(BASE).triton_name
    async with TritonClient(service.address) as client:
        outputs = await client.infer(name, tensors(vocabulary), list(contract().outputs))
    assert TEXT in vocabulary.text(outputs["tokens"][0, 0].tolist())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mel", np.zeros((1, 81, 100), dtype=np.float32)),
        ("mel", np.zeros((1, 80, 100), dtype=np.float16)),
        ("mel", np.full((1, 80, 530), np.nan, dtype=np.float32)),
        ("prompt", np.array([[99]], dtype=np.int32)),
        ("frames", np.array([[531 + 100]], dtype=np.int32)),
        ("beam_size", np.array([[99]], dtype=np.int32)),
    ],
)
async def test_a_bad_tensor_is_refused_and_the_next_call_works(
    service: ServiceProcess, vocabulary: Vocabulary, field: str, value: np.ndarray
) -> None:
    name = load_manifest().model(BASE).triton_name
    async with TritonClient(service.address) as client:
        with pytest.raises(ServiceError, match=field) as refusal:
            await client.infer(name, tensors(vocabulary) | {field: value}, ["tokens"])
        assert refusal.value.kind is Kind.INVALID_ARGUMENT
        await client.infer(name, tensors(vocabulary), ["tokens"])
