"""Where nobody speaks there is no text, whatever the model would make of it."""

import asyncio

import pytest
from flotilla.asr.v1 import asr_pb2 as pb

from tests.integration.asr.calls import BASE, RAW, TINY, raw
from tests.unit.asr.speech import unspoken


@pytest.mark.parametrize("model", [BASE, TINY])
@pytest.mark.parametrize("threshold", [0.5, 0.1])
async def test_no_text_without_speech(stub, model, threshold):
    sounds = unspoken()
    config = pb.TranscriptionConfig(model=model, audio=RAW, speech_threshold=threshold)
    answers = await asyncio.gather(
        *(stub.Transcribe(pb.TranscribeRequest(config=config, audio=raw(sound))) for sound in sounds.values())
    )
    assert {name: answer.text for name, answer in zip(sounds, answers, strict=True) if answer.text} == {}
    assert all(not answer.segments for answer in answers)
