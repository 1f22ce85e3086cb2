"""Uploads of audio: large ones, slow ones, too many, and what they cost."""

import asyncio
import hashlib
from typing import Any

import pytest
from starlette.datastructures import UploadFile

from services.common.errors import Kind, ServiceError
from tests.bad_requests import connected, head, status_line
from tests.integration.gateway.audio_forms import (
    CLIP,
    form,
    part,
    raw_request,
    transcribe,
)
from tests.integration.gateway.fake_asr import TEXT, FakeAsr
from tests.integration.gateway.gateway import Gateway, running

MB = 2**20
FILE = part("file", CLIP, upload=True)


async def test_a_large_upload_arrives_whole_and_in_pieces(asr_gateway: Gateway, asr: FakeAsr) -> None:
    audio = bytes(range(256)) * (40 * MB // 256)
    assert (await transcribe(asr_gateway, audio=audio)).json()["text"] == TEXT
    assert asr.heard.digest.hexdigest() == hashlib.sha256(audio).hexdigest()
    assert max(asr.heard.pieces) == 256 * 1024


async def test_the_service_holds_the_gateway_back(
    asr_gateway: Gateway, asr: FakeAsr, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, read = [0], UploadFile.read

    async def count(self: UploadFile, size: int = -1) -> bytes:
        piece = await read(self, size)
        taken[0] += len(piece)
        return piece

    monkeypatch.setattr(UploadFile, "read", count)
    asr.deaf = True
    sending = asyncio.create_task(transcribe(asr_gateway, audio=b"x" * 64 * MB))
    await asyncio.wait_for(asr.entered.wait(), 60)
    before = -1
    while taken[0] != before:  # until it stands still
        before = taken[0]
        await asyncio.sleep(0.3)
    assert taken[0] < 16 * MB
    asr.release.set()
    assert (await sending).status_code == 200
    assert sum(asr.heard.pieces) == taken[0] == 64 * MB


async def test_a_declared_length_over_the_limit_is_refused_at_once(asr_gateway: Gateway, asr: FakeAsr) -> None:
    async with connected(asr_gateway.http_port) as (reader, writer):
        writer.write(raw_request(b"", length=600 * MB))
        assert b" 413 " in await status_line(reader)
    assert asr.calls == []


async def test_an_undeclared_length_over_the_limit_is_refused_while_it_arrives(asr: FakeAsr) -> None:
    begin = form(FILE, ended=False).removesuffix(b"\r\n") + b"x" * 4 * MB
    async with (
        running(asr_addresses=asr.address, audio_body_limit_bytes=2 * MB) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        head, _, _ = raw_request(b"").partition(b"content-length")
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n" + b"%x\r\n" % len(begin) + begin)
        assert b" 413 " in await status_line(reader)
        assert b"limit of 3145728 bytes" in await reader.readuntil(b"}}")
        assert (await transcribe(gateway)).status_code == 200
    assert len(asr.calls) == 1


async def test_other_routes_keep_their_limit(asr_gateway: Gateway) -> None:
    async with connected(asr_gateway.http_port) as (reader, writer):
        writer.write(head(100 * MB))
        assert b" 413 " in await status_line(reader)


async def test_a_slow_upload_is_taken_as_long_as_it_goes_on(asr: FakeAsr) -> None:
    body = form(FILE)
    async with (
        running(asr_addresses=asr.address, body_timeout_seconds=0.5) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        writer.write(raw_request(b"", length=len(body)))
        for i in range(0, len(body), len(body) // 8):  # a second and more
            writer.write(body[i : i + len(body) // 8])
            await asyncio.sleep(0.15)
        assert b" 200 " in await status_line(reader)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"body_timeout_seconds": 0.1}, b"nothing of the request body arrived for 0.1 s"),
        ({"audio_body_timeout_seconds": 0.1}, b"did not arrive within 0.1 s"),
    ],
)
async def test_an_upload_that_stops_is_408(asr: FakeAsr, settings: dict[str, Any], words: bytes) -> None:
    async with running(asr_addresses=asr.address, **settings) as gateway:
        async with connected(gateway.http_port) as (reader, writer):
            writer.write(raw_request(form(FILE)[:100], length=10_000))
            text = await asyncio.wait_for(reader.read(), 10)
        assert b" 408 " in text.splitlines()[0]
        assert words in text
        assert asr.calls == []


async def test_uploads_have_a_room_of_their_own(asr: FakeAsr) -> None:
    async with running(asr_addresses=asr.address, audio_uploads_bytes=3 * MB) as gateway:
        asr.says(asr.hang)
        large = asyncio.create_task(transcribe(gateway, audio=b"x" * 2 * MB))
        await asr.entered.wait()
        refused = await transcribe(gateway, audio=b"x" * 2 * MB)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "uploads_full")
        assert refused.headers["retry-after"] == "5"
        asr.release.set()
        assert (await large).status_code == 200
        assert (await transcribe(gateway, audio=b"x" * 2 * MB)).status_code == 200


async def test_a_full_disk_is_503(asr_gateway: Gateway, asr: FakeAsr, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(UploadFile, "write", fail)
    response = await transcribe(asr_gateway)
    assert (response.status_code, "retry-after" in response.headers) == (503, True)
    assert "device" not in response.text
    monkeypatch.undo()
    assert (await transcribe(asr_gateway)).status_code == 200


@pytest.mark.parametrize("size", [10, 100_000, 5 * MB])
async def test_a_refusal_while_the_upload_goes_on_is_told_as_it_was_meant(
    asr_gateway: Gateway, asr: FakeAsr, size: int
) -> None:
    asr.refusal = ServiceError(Kind.OVERLOADED, "queue full", code="queue_full", retry_after=1.5)
    for _ in range(20):
        response = await transcribe(asr_gateway, audio=b"x" * size)
        assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
