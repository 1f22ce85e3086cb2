"""Speech through the whole fleet: the clients that applications have, in every format, and what is refused."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import srt
import webvtt
from openai.types.audio import TranscriptionTextDoneEvent, TranscriptionVerbose

from tests.bad_requests import assert_refused
from tools.fleet.private import PrivateFleet, private_fleet

SPEECH = Path(__file__).resolve().parents[2] / "tools" / "export" / "speech.flac"
SECONDS = 5.3
WORDS = {"cold", "hearted", "selfish"}
BASE, ENGLISH = "whisper-base", "whisper-tiny.en"
ROUTE = "/v1/audio/transcriptions"
# The SDK says so of its whole translations.create; there is no other.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateFleet]:
    async with private_fleet(tmp_path_factory.mktemp("fleet"), services=["asr"]) as running:
        yield running


@pytest.fixture
async def client(fleet: PrivateFleet) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none") as sdk:
        yield sdk


@pytest.fixture
async def http(fleet: PrivateFleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fleet.url, trust_env=False, timeout=120) as session:
        yield session


@pytest.fixture
def blocking(fleet: PrivateFleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none") as sdk:
        yield sdk


def said(text: str) -> set[str]:
    """The words of a text."""
    return set("".join(letter if letter.isalpha() else " " for letter in text.lower()).split())


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """A WAV file of mono samples of 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


async def post(http: httpx.AsyncClient, audio: bytes, **fields: Any) -> httpx.Response:
    return await http.post(ROUTE, files={"file": ("a.bin", audio)}, data=fields)


@pytest.mark.parametrize("model", [BASE, ENGLISH])
async def test_every_format(client: openai.AsyncOpenAI, model: str) -> None:
    create = client.audio.transcriptions.create
    plain = await create(model=model, file=SPEECH)
    assert said(plain.text) >= WORDS
    assert plain.usage is not None
    assert plain.usage.seconds == pytest.approx(SECONDS, abs=0.1)  # type: ignore[union-attr]
    assert await create(model=model, file=SPEECH, response_format="text") == f"{plain.text}\n"
    cues = list(srt.parse(await create(model=model, file=SPEECH, response_format="srt")))
    assert said(" ".join(cue.content for cue in cues)) >= WORDS
    captions = webvtt.from_buffer(io.StringIO(await create(model=model, file=SPEECH, response_format="vtt")))
    assert said(" ".join(caption.text for caption in captions)) >= WORDS
    verbose = await create(
        model=model, file=SPEECH, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    TranscriptionVerbose.model_validate(verbose.model_dump(), strict=True)
    assert (verbose.language, verbose.text) == ("english", plain.text)
    assert said(" ".join(word.word for word in verbose.words or ())) >= WORDS
    times = [time for word in verbose.words or () for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[-1] <= verbose.duration + 0.1
    assert "".join(segment.text for segment in verbose.segments or ()).strip() == plain.text


async def test_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.audio.transcriptions.create(model=BASE, file=SPEECH, stream=True)
    *deltas, done = [event async for event in stream]
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert "".join(delta.delta for delta in deltas) == done.text  # type: ignore[union-attr]
    assert said(done.text) >= WORDS


async def test_a_translation(client: openai.AsyncOpenAI) -> None:
    verbose = await client.audio.translations.create(model=BASE, file=SPEECH, response_format="verbose_json")
    assert (verbose.language, said(verbose.text) >= WORDS) == ("english", True)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.audio.translations.create(model=ENGLISH, file=SPEECH)
    assert refused.value.param == "model"


async def test_the_client_that_blocks(blocking: openai.OpenAI) -> None:
    def use() -> str:
        return blocking.audio.transcriptions.create(model=BASE, file=SPEECH).text

    assert said(await asyncio.to_thread(use)) >= WORDS


async def test_silence_is_no_text(http: httpx.AsyncClient) -> None:
    silence = wav(np.zeros(32_000))
    assert (await post(http, silence)).json()["text"] == ""
    assert (await post(http, silence, response_format="srt")).text == ""
    assert (await post(http, silence, response_format="vtt")).text == "WEBVTT\n"
    assert "transcript.text.done" in (await post(http, silence, stream="true")).text


@pytest.mark.parametrize(
    ("audio", "fields", "status", "param"),
    [
        (b"", {}, 400, "file"),
        (b"this is no sound " * 100, {}, 400, "file"),
        (SPEECH.read_bytes()[:20_000], {}, 400, "file"),
        (SPEECH.read_bytes(), {"model": "nope"}, 404, "model"),
        (SPEECH.read_bytes(), {"language": "klingon"}, 400, "language"),
        (SPEECH.read_bytes(), {"model": ENGLISH, "language": "de"}, 400, "language"),
    ],
)
async def test_what_is_refused_is_named(
    http: httpx.AsyncClient, audio: bytes, fields: dict[str, str], status: int, param: str
) -> None:
    for stream in ("true", "false"):
        response = await post(http, audio, stream=stream, **fields)
        assert response.status_code == status, response.text
        assert response.json()["error"]["param"] == param
        assert "config." not in response.json()["error"]["message"]


async def test_500_mb_of_nothing(http: httpx.AsyncClient) -> None:
    response = await post(http, bytes(500_000_000))
    assert_refused(response, 400, "file")
    assert said((await post(http, SPEECH.read_bytes())).json()["text"]) >= WORDS
