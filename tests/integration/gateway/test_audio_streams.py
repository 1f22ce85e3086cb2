"""Transcripts as events, and clients that leave."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.common.errors import Kind, ServiceError, invalid
from tests.bad_requests import assert_refused, connected
from tests.integration.gateway.audio_forms import (
    CLIP,
    TRANSLATIONS,
    events,
    form,
    part,
    raw_request,
    transcribe,
)
from tests.integration.gateway.fake_asr import END, PROGRESS, SECONDS, TEXT, FakeAsr, answer
from tests.integration.gateway.gateway import Gateway, running
from tests.waiting import until

FILE = part("file", CLIP, upload=True)
STREAM = part("stream", b"true")
LARGE = part("file", b"x" * 3_000_000, upload=True)  # lies in a file


@pytest.fixture(autouse=True)
async def files(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Any]]:
    """The temporary files that are made; all are closed in the end."""
    made: list[Any] = []
    make = tempfile.SpooledTemporaryFile

    def note(*args: Any, **options: Any) -> Any:
        made.append(make(*args, **options))
        return made[-1]

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", note)
    yield made
    await until(lambda: all(file.closed for file in made))


@pytest.mark.parametrize("kind", ["json", "text"])
async def test_each_segment_is_an_event(asr_gateway: Gateway, kind: str) -> None:
    response = await transcribe(asr_gateway, stream="true", response_format=kind)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "[DONE]" not in response.text
    *deltas, done = events(response.text)
    assert deltas == [
        {"type": "transcript.text.delta", "delta": "Guten Tag, Welt."},
        {"type": "transcript.text.delta", "delta": " Es regnet."},
    ]
    assert done == {
        "type": "transcript.text.done",
        "text": TEXT,
        "usage": {
            "type": "tokens",
            "input_tokens": 225,
            "input_token_details": {"audio_tokens": 225, "text_tokens": 0},
            "output_tokens": 7,
            "total_tokens": 232,
            "seconds": SECONDS,
        },
    }


async def test_a_translation_as_events(asr_gateway: Gateway) -> None:
    assert events((await transcribe(asr_gateway, TRANSLATIONS, stream="true")).text)[-1]["text"] == TEXT


async def test_silence_is_one_event(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.says(PROGRESS, END)
    (done,) = events((await transcribe(asr_gateway, stream="true")).text)
    assert (done["type"], done["text"]) == ("transcript.text.done", "")


async def test_a_segment_leaves_as_soon_as_it_is_done(asr: FakeAsr) -> None:
    asr.says(answer(0), asr.hang, answer(1), END)
    async with (
        running(asr_addresses=asr.address, stream_keep_alive_seconds=0.05) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        writer.write(raw_request(form(STREAM, FILE)))
        await reader.readuntil(b"Guten Tag")
        await reader.readuntil(b": keep-alive\n\n")
        asr.release.set()
        await reader.readuntil(b"transcript.text.done")


async def test_signs_of_progress_do_not_hide_the_silence(asr: FakeAsr) -> None:
    asr.says(*[PROGRESS, lambda: asyncio.sleep(0.03)] * 10, asr.hang, END)
    async with (
        running(asr_addresses=asr.address, stream_keep_alive_seconds=0.05) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        writer.write(raw_request(form(STREAM, FILE)))
        await reader.readuntil(b": keep-alive\n\n")
        asr.release.set()
        await reader.readuntil(b"transcript.text.done")


async def test_a_failure_before_the_first_segment_is_a_plain_error(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.says(PROGRESS, invalid("audio", "audio is no file that can be read"))
    assert_refused(await transcribe(asr_gateway, stream="true"), 400, "file", "file is no file")
    asr.refusal = ServiceError(Kind.OVERLOADED, "queue full", retry_after=1)
    assert (await transcribe(asr_gateway, stream="true")).status_code == 429


async def test_a_failure_within_is_an_error_event(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.says(answer(0), ServiceError(Kind.UNAVAILABLE, "the engine died"))
    first, last = events((await transcribe(asr_gateway, stream="true")).text)
    assert first["delta"] == "Guten Tag, Welt."
    assert (last["error"]["message"], last["error"]["type"]) == ("the engine died", "service_unavailable_error")
    asr.says(answer(0), invalid("audio", "audio ends in the middle"))
    _, last = events((await transcribe(asr_gateway, stream="true")).text)
    assert (last["error"]["param"], last["error"]["message"]) == ("file", "file ends in the middle")


@pytest.mark.parametrize("body", [FILE, LARGE])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_the_call(
    asr_gateway: Gateway, asr: FakeAsr, files: list[Any], body: bytes, stream: bool
) -> None:
    for begun in (True, False):
        asr.says(*([answer(0)] if begun else []), asr.hang)
        asr.entered.clear()
        async with connected(asr_gateway.http_port) as (reader, writer):
            writer.write(raw_request(form(*([STREAM] if stream else []), body)))
            await asyncio.wait_for(asr.entered.wait(), 30)
            if stream and begun:
                await reader.readuntil(b"Guten Tag")
        await asyncio.wait_for(asr.idle.wait(), 10)
    assert len(files) == 2


async def test_the_upload_of_a_request_that_is_served_is_closed_too(asr_gateway: Gateway, files: list[Any]) -> None:
    for stream in ("true", "false"):
        assert (await transcribe(asr_gateway, audio=b"x" * 3_000_000, stream=stream)).status_code == 200
    assert [file._rolled for file in files] == [True, True]


async def test_a_client_that_leaves_while_its_upload_goes_on_to_the_service(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.deaf = True
    async with connected(asr_gateway.http_port) as (_, writer):
        writer.write(raw_request(form(part("file", b"x" * 20_000_000, upload=True))))
        await asyncio.wait_for(asr.entered.wait(), 30)
    await asyncio.wait_for(asr.idle.wait(), 10)


async def test_a_client_that_leaves_in_the_middle_of_its_upload_reaches_no_service(
    asr_gateway: Gateway, asr: FakeAsr, files: list[Any]
) -> None:
    async with connected(asr_gateway.http_port) as (_, writer):
        writer.write(raw_request(form(LARGE)[:2_000_000], length=len(form(LARGE))))
        await writer.drain()
    assert (await transcribe(asr_gateway)).status_code == 200
    assert len(asr.calls) == 1


async def test_a_deadline_within_is_an_error_event(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.says(answer(0), asr.hang)
    asr_gateway.http.headers["x-flotilla-timeout-ms"] = "500"
    assert "timeout_error" in (await transcribe(asr_gateway, stream="true")).text
    await asyncio.wait_for(asr.idle.wait(), 10)
