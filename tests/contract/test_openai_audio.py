"""The unmodified OpenAI SDK against the audio routes."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import srt
import webvtt
from flotilla.asr.v1 import asr_pb2 as pb
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)

from services.common.errors import Kind, ServiceError
from tests.integration.gateway.fake_asr import MODEL, SECONDS, TEXT, FakeAsr, answer
from tests.integration.gateway.fake_embedding import MODEL as NO_SPEECH_MODEL
from tests.integration.gateway.gateway import Gateway

# The SDK says so of its whole translations.create; there is no other.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
FILE = ("clip.wav", b"RIFF it could be a file")


@pytest.fixture
async def client(asr_gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{asr_gateway.http_port}/v1", api_key="none") as sdk:
        yield sdk


def exactly(model: type[Any], answer: Any) -> None:
    """Hold an answer, which the SDK takes as it comes, against the SDK's own types."""
    assert type(answer) is model
    model.model_validate(answer.model_dump(), strict=True)


async def test_a_transcription(client: openai.AsyncOpenAI) -> None:
    found = await client.audio.transcriptions.create(model=MODEL, file=FILE)
    exactly(Transcription, found)
    assert found.text == TEXT
    assert found.usage is not None
    assert (found.usage.type, found.usage.seconds) == ("duration", SECONDS)


async def test_a_verbose_transcription(client: openai.AsyncOpenAI) -> None:
    found = await client.audio.transcriptions.create(
        model=MODEL, file=FILE, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    exactly(TranscriptionVerbose, found)
    assert (found.text, found.language, found.duration) == (TEXT, "german", SECONDS)
    assert [segment.text for segment in found.segments or ()] == [" Guten Tag, Welt.", " Es regnet."]
    assert [word.word for word in found.words or ()] == TEXT.split()


@pytest.mark.parametrize("route", ["transcriptions", "translations"])
async def test_texts_and_subtitles(client: openai.AsyncOpenAI, route: str) -> None:
    create = getattr(client.audio, route).create
    assert await create(model=MODEL, file=FILE, response_format="text") == f"{TEXT}\n"
    assert len(list(srt.parse(await create(model=MODEL, file=FILE, response_format="srt")))) == 2
    assert len(webvtt.from_buffer(io.StringIO(await create(model=MODEL, file=FILE, response_format="vtt")))) == 2


async def test_a_translation(client: openai.AsyncOpenAI, asr: FakeAsr) -> None:
    found = await client.audio.translations.create(model=MODEL, file=FILE)
    exactly(Translation, found)
    assert found.text == TEXT
    verbose = await client.audio.translations.create(model=MODEL, file=FILE, response_format="verbose_json")
    exactly(TranslationVerbose, verbose)
    assert verbose.language == "english"
    assert asr.heard.config.task == pb.TASK_TRANSLATE


@pytest.mark.parametrize("kind", ["json", "text"])
async def test_a_stream(client: openai.AsyncOpenAI, kind: Any) -> None:
    stream = await client.audio.transcriptions.create(model=MODEL, file=FILE, stream=True, response_format=kind)
    *deltas, done = [event async for event in stream]
    for delta in deltas:
        exactly(TranscriptionTextDeltaEvent, delta)
    exactly(TranscriptionTextDoneEvent, done)
    assert "".join(delta.delta for delta in deltas) == done.text == TEXT  # type: ignore[union-attr]


async def test_every_parameter_as_the_sdk_writes_it(client: openai.AsyncOpenAI, asr: FakeAsr) -> None:
    await client.audio.transcriptions.create(
        model=MODEL,
        file=FILE,
        language="de",
        prompt="Grüße",
        temperature=0.5,
        chunking_strategy={"type": "server_vad", "threshold": 0.25},
        keywords=["Triton", "Riva"],
    )
    assert asr.heard.config == pb.TranscriptionConfig(
        model=MODEL,
        language="de",
        task=pb.TASK_TRANSCRIBE,
        prompt="Grüße",
        temperature=0.5,
        hot_words=["Triton", "Riva"],
        speech_threshold=0.25,
    )
    await client.audio.transcriptions.create(
        model=MODEL, file=FILE, chunking_strategy="auto", extra_body={"hotwords": ["Riva"]}
    )
    assert asr.heard.config.hot_words == ["Riva"]


async def test_errors_arrive_as_the_sdks_own(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.audio.transcriptions.create(model="nope", file=FILE)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    for parameters, param in (
        ({"model": NO_SPEECH_MODEL}, "model"),
        ({"model": MODEL, "language": "klingon"}, "language"),
        ({"model": MODEL, "include": ["logprobs"]}, "include"),
        ({"model": MODEL, "stream": True, "response_format": "srt"}, "stream"),
        ({"model": MODEL, "timestamp_granularities": ["word"]}, "timestamp_granularities"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.audio.transcriptions.create(file=FILE, **parameters)
        assert refused.value.param == param


async def test_errors_within_a_stream_are_raised(client: openai.AsyncOpenAI, asr: FakeAsr) -> None:
    asr.says(answer(0), ServiceError(Kind.UNAVAILABLE, "the engine died"))
    stream = await client.audio.transcriptions.create(model=MODEL, file=FILE, stream=True)
    assert (await anext(stream)).delta == "Guten Tag, Welt."  # type: ignore[union-attr]
    with pytest.raises(openai.APIError, match="the engine died"):
        await anext(stream)


async def test_overload_is_retried_by_the_sdk(client: openai.AsyncOpenAI, asr: FakeAsr) -> None:
    asr.refusal = ServiceError(Kind.OVERLOADED, "queue full", code="queue_full", retry_after=0.001)
    with pytest.raises(openai.RateLimitError):
        await client.audio.transcriptions.create(model=MODEL, file=FILE)
    assert len(asr.calls) == 3


async def test_a_stream_that_is_closed_cancels_the_work(client: openai.AsyncOpenAI, asr: FakeAsr) -> None:
    asr.says(answer(0), asr.hang)
    stream = await client.audio.transcriptions.create(model=MODEL, file=FILE, stream=True)
    await anext(stream)
    await stream.close()
    await asr.idle.wait()


async def test_the_client_that_blocks(asr_gateway: Gateway) -> None:
    def use() -> tuple[str, list[str], str]:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{asr_gateway.http_port}/v1", api_key="none") as sdk:
            whole = sdk.audio.transcriptions.create(model=MODEL, file=FILE, response_format="verbose_json")
            exactly(TranscriptionVerbose, whole)
            stream = sdk.audio.transcriptions.create(model=MODEL, file=FILE, stream=True)
            deltas = [event.delta for event in stream if event.type == "transcript.text.delta"]
            return whole.text, deltas, sdk.audio.translations.create(model=MODEL, file=FILE).text

    assert await asyncio.to_thread(use) == (TEXT, ["Guten Tag, Welt.", " Es regnet."], TEXT)
