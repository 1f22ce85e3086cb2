"""The audio routes: formats, parameters, what is refused, and what the service is sent."""

import hashlib
from typing import Any

import pytest
import srt
import webvtt
from flotilla.asr.v1 import asr_pb2 as pb

from services.common.errors import Kind, ServiceError, invalid
from tests.bad_requests import assert_refused
from tests.integration.gateway.audio_forms import (
    CLIP,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    config,
    form,
    part,
    send,
    transcribe,
)
from tests.integration.gateway.fake_asr import ENGLISH_MODEL, MODEL, SECONDS, TEXT, FakeAsr
from tests.integration.gateway.fake_embedding import MODEL as NO_SPEECH_MODEL
from tests.integration.gateway.gateway import Gateway, running

USAGE = {"type": "duration", "seconds": SECONDS}


async def test_json(asr_gateway: Gateway, asr: FakeAsr) -> None:
    response = await transcribe(asr_gateway)
    assert response.json() == {"text": TEXT, "usage": USAGE}
    assert response.headers["content-type"] == "application/json"
    assert asr.heard.config == config()
    assert asr.heard.digest.hexdigest() == hashlib.sha256(CLIP).hexdigest()


async def test_text(asr_gateway: Gateway) -> None:
    response = await transcribe(asr_gateway, response_format="text")
    assert response.text == f"{TEXT}\n"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


async def test_verbose_json_has_segments(asr_gateway: Gateway, asr: FakeAsr) -> None:
    body = (await transcribe(asr_gateway, response_format="verbose_json")).json()
    first, second = body.pop("segments")
    assert body == {"task": "transcribe", "language": "german", "duration": SECONDS, "text": TEXT, "usage": USAGE}
    assert second == {
        "id": 1,
        "seek": 150,
        "start": 1.5,
        "end": 4.1,
        "text": " Es regnet.",
        "tokens": [50, 1],
        "temperature": 0.2,
        "avg_logprob": -0.3,
        "compression_ratio": 1.1,
        "no_speech_prob": 0.01,
    }
    assert first["end"] == 1.5
    assert not asr.heard.config.word_timestamps


@pytest.mark.parametrize("field", ["timestamp_granularities__", "timestamp_granularities"])
async def test_verbose_json_has_the_times_that_are_asked_for(asr_gateway: Gateway, asr: FakeAsr, field: str) -> None:
    body = (await transcribe(asr_gateway, response_format="verbose_json", **{field: "word"})).json()
    assert [word["word"] for word in body["words"]] == TEXT.split()
    assert body["words"][0] == {"word": "Guten", "start": 0.0, "end": 0.5}
    assert "segments" not in body
    assert asr.heard.config.word_timestamps
    body = (await transcribe(asr_gateway, response_format="verbose_json", **{field: ["word", "segment"]})).json()
    assert (len(body["words"]), len(body["segments"])) == (5, 2)


async def test_subtitles_are_what_parsers_take(asr_gateway: Gateway) -> None:
    response = await transcribe(asr_gateway, response_format="srt")
    assert response.headers["content-type"] == "application/x-subrip; charset=utf-8"
    cues = list(srt.parse(response.text))
    assert [(cue.index, cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in cues] == [
        (1, 0.0, 1.5, "Guten Tag, Welt."),
        (2, 1.5, 4.1, "Es regnet."),
    ]
    response = await transcribe(asr_gateway, response_format="vtt")
    assert response.headers["content-type"] == "text/vtt; charset=utf-8"
    captions = webvtt.from_string(response.text)
    assert [(caption.start, caption.end, caption.text) for caption in captions] == [
        ("00:00:00.000", "00:00:01.500", "Guten Tag, Welt."),
        ("00:00:01.500", "00:00:04.100", "Es regnet."),
    ]


@pytest.mark.parametrize(("kind", "expected"), [("text", "\n"), ("srt", ""), ("vtt", "WEBVTT\n")])
async def test_silence_is_an_empty_text(asr_gateway: Gateway, asr: FakeAsr, kind: str, expected: str) -> None:
    asr.says(pb.TranscribeFileResponse(summary=pb.Summary(language="en", duration=2)))
    assert (await transcribe(asr_gateway, response_format=kind)).text == expected
    assert (await transcribe(asr_gateway)).json()["text"] == ""


async def test_a_translation_is_in_english(asr_gateway: Gateway, asr: FakeAsr) -> None:
    body = (await transcribe(asr_gateway, TRANSLATIONS, response_format="verbose_json")).json()
    assert (body["task"], body["language"]) == ("translate", "english")
    assert asr.heard.config == config(task=pb.TASK_TRANSLATE)


# Fields of the form, and those of the configuration that the service gets.
PARAMETERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"model": ENGLISH_MODEL}, {"model": ENGLISH_MODEL}),
    ({"language": "de", "prompt": "Grüße"}, {"language": "de", "prompt": "Grüße"}),
    ({"language": "", "prompt": "", "model": ""}, {}),
    ({"temperature": "0.25"}, {"temperature": 0.25}),
    ({"temperature": "0"}, {}),
    ({"hotwords": "Triton, Riva"}, {"hot_words": ["Triton", "Riva"]}),
    ({"hotwords__": ["Triton", "a, b"]}, {"hot_words": ["Triton", "a", "b"]}),
    ({"keywords__": ["Triton"]}, {"hot_words": ["Triton"]}),
    ({"chunking_strategy": "auto"}, {}),
    ({"chunking_strategy": '{"type": "server_vad", "threshold": 0.25}'}, {"speech_threshold": 0.25}),
    (
        {"chunking_strategy[type]": "server_vad", "chunking_strategy[threshold]": "0.25"},
        {"speech_threshold": 0.25},
    ),
    ({"chunking_strategy[type]": "server_vad", "chunking_strategy[silence_duration_ms]": "200"}, {}),
    ({"stream": "false"}, {}),
]


@pytest.mark.parametrize(("fields", "expected"), PARAMETERS)
async def test_parameters(asr_gateway: Gateway, asr: FakeAsr, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    response = await transcribe(asr_gateway, **fields)
    assert response.status_code == 200, response.text
    assert asr.heard.config == config(**expected)


# Fields of the form, the status, the parameter that the error names, and words of its message.
REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"model": "nope"}, 404, "model", f"loaded: {MODEL}, {ENGLISH_MODEL}"),
    ({"model": NO_SPEECH_MODEL}, 400, "model", "does not take audio"),
    ({"language": "klingon"}, 400, "language", "language 'klingon'"),
    ({"language": "x" * 65}, 400, "language", "64"),
    ({"response_format": "diarized_json"}, 400, "response_format", "'verbose_json'"),
    ({"temperature": "1.5"}, 400, "temperature", "1"),
    ({"temperature": "nan"}, 400, "temperature", ""),
    ({"temperature": "warm"}, 400, "temperature", "must be a number"),
    ({"stream": "perhaps"}, 400, "stream", "true or false"),
    ({"stream": "true", "response_format": "srt"}, 400, "stream", "not srt"),
    ({"stream": "true", "response_format": "verbose_json"}, 400, "stream", "not verbose_json"),
    ({"timestamp_granularities__": "word"}, 400, "timestamp_granularities", "verbose_json"),
    (
        {"timestamp_granularities__": "syllable", "response_format": "verbose_json"},
        400,
        "timestamp_granularities[0]",
        "'word'",
    ),
    ({"include__": "logprobs"}, 400, "include", "log-probabilities"),
    ({"languages__": "en"}, 400, "languages", "cannot be honoured"),
    ({"known_speaker_names__": "me"}, 400, "known_speaker_names", "speakers"),
    ({"hotwords": ",".join(["a"] * 101)}, 400, "hotwords", "too many"),
    ({"hotwords": "a" * 101}, 400, "hotwords[0]", "100"),
    ({"hotwords": "a", "keywords": "b"}, 400, "keywords", "hotwords"),
    ({"chunking_strategy": "never"}, 400, "chunking_strategy", ""),
    ({"chunking_strategy": '{"type": "server_vad"'}, 400, "chunking_strategy", "JSON object"),
    ({"chunking_strategy": '{"type": "client_vad"}'}, 400, "chunking_strategy.type", "server_vad"),
    ({"chunking_strategy": '{"type": "server_vad", "threshold": 1}'}, 400, "chunking_strategy.threshold", "less"),
    ({"chunking_strategy": "auto", "chunking_strategy[type]": "server_vad"}, 400, "chunking_strategy", "twice"),
    ({"speed": "2"}, 400, "speed", "not a parameter"),
    ({"prompt": ["a", "b"]}, 400, "prompt", "twice"),
]


@pytest.mark.parametrize(("fields", "status", "param", "words"), REFUSED)
async def test_what_is_refused_is_named(
    asr_gateway: Gateway, fields: dict[str, Any], status: int, param: str, words: str
) -> None:
    assert_refused(await transcribe(asr_gateway, **fields), status, param, words)
    assert (await transcribe(asr_gateway)).status_code == 200


FILE = part("file", CLIP, upload=True)
# A form, the parameter that the error names, and words of its message.
BAD_FORMS: list[tuple[bytes, str | None, str]] = [
    (form(part("model", b"m")), "file", "required"),
    (form(part("file", CLIP)), "file", "upload"),
    (form(FILE, FILE), "file", "one file"),
    (form(FILE, part("prompt", b"x", upload=True)), "file", "one file"),
    (form(part("audio", CLIP, upload=True)), "audio", "no field for an upload"),
    (form(part("file", b"", upload=True)), "file", "empty"),
    (form(FILE, ended=False), None, "last boundary"),
    (form(FILE, part("prompt", b"x" * 70_000)), None, "64KB"),
    (form(FILE, *[part("hotwords", b"x")] * 257), None, "Too many fields"),
    (b"nothing of the kind", None, "cannot be read"),
    (b"", None, "last boundary"),
]


@pytest.mark.parametrize(("body", "param", "words"), BAD_FORMS)
async def test_a_bad_form(asr_gateway: Gateway, asr: FakeAsr, body: bytes, param: str | None, words: str) -> None:
    assert_refused(await send(asr_gateway, body), 400, param, words)
    assert asr.calls == []
    assert (await transcribe(asr_gateway)).status_code == 200


async def test_fields_come_in_any_order(asr_gateway: Gateway, asr: FakeAsr) -> None:
    response = await send(asr_gateway, form(part("language", b"de"), FILE, part("model", MODEL.encode())))
    assert response.json()["text"] == TEXT
    assert (asr.heard.config.model, asr.heard.config.language) == (MODEL, "de")


async def test_a_body_that_is_no_form(asr_gateway: Gateway) -> None:
    response = await asr_gateway.http.post(TRANSCRIPTIONS, json={"file": "aaaa"})
    assert (response.status_code, response.json()["error"]["type"]) == (415, "invalid_request_error")


async def test_errors_about_the_audio_name_the_file(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.says(invalid("audio", "audio has no sound in it"))
    assert_refused(await transcribe(asr_gateway), 400, "file", "file has no sound in it")
    asr.says(invalid("config.hot_words[3]", "config.hot_words[3] is odd"))
    assert_refused(await transcribe(asr_gateway), 400, "hotwords[3]", "hotwords[3] is odd")


async def test_overload_says_when_to_come_back(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.refusal = ServiceError(Kind.OVERLOADED, "queue full", code="queue_full", retry_after=1.5)
    response = await transcribe(asr_gateway)
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert response.json()["error"]["code"] == "queue_full"


async def test_a_service_that_is_not_there() -> None:
    async with FakeAsr().running() as asr, running(asr_addresses="127.0.0.1:9") as gateway:
        response = await transcribe(gateway)
        assert (response.status_code, "retry-after" in response.headers) == (503, True)
        assert asr.calls == []


async def test_the_request_id_and_the_deadline_go_on(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr_gateway.http.headers.update({"x-request-id": "my-id", "x-flotilla-timeout-ms": "7000"})
    assert (await transcribe(asr_gateway)).headers["x-request-id"] == "my-id"
    assert asr.metadata[-1]["x-request-id"] == "my-id"
    assert 0 < (asr.remaining[-1] or 0) < 8


async def test_without_a_deadline_long_audio_has_an_hour(asr_gateway: Gateway, asr: FakeAsr) -> None:
    await transcribe(asr_gateway)
    assert asr.remaining[-1] == pytest.approx(3600, abs=15)  # gRPC rounds long time-outs up, to tens of seconds


async def test_a_missed_deadline_is_504(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.says(asr.hang)
    asr_gateway.http.headers["x-flotilla-timeout-ms"] = "200"
    assert (await transcribe(asr_gateway)).status_code == 504


async def test_a_call_that_was_not_started_is_made_again_elsewhere() -> None:
    async with (
        FakeAsr().running() as one,
        FakeAsr().running() as two,
        running(asr_addresses=f"{one.address},{two.address}") as gateway,
    ):
        one.refusal = ServiceError(Kind.NOT_STARTED, "this replica is shutting down; the call was not started")
        for _ in range(4):
            assert (await transcribe(gateway)).json()["text"] == TEXT
        assert len(one.calls) == 1
        assert {call.digest.hexdigest() for call in two.calls} == {hashlib.sha256(CLIP).hexdigest()}


async def test_models_of_speech_are_listed(asr_gateway: Gateway) -> None:
    rows = (await asr_gateway.http.get("/v1/models")).json()["data"]
    assert {MODEL, ENGLISH_MODEL} <= {row["id"] for row in rows}
