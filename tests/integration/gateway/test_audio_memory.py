"""What a large upload costs the gateway as a process."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import psutil

from tests.integration.gateway.audio_forms import BOUNDARY, TRANSCRIPTIONS, form, part
from tests.integration.gateway.fake_asr import TEXT, FakeAsr
from tests.integration.gateway.test_process import http_port, process, records

MB = 2**20
SIZE = 128 * MB


async def upload() -> AsyncIterator[bytes]:
    begin = form(part("file", b"", upload=True), ended=False).removesuffix(b"\r\n")
    yield begin
    for _ in range(SIZE // MB):
        yield b"x" * MB
    yield b"\r\n" + form(part("model", b"fake-whisper"))


async def test_memory_stays_flat_under_large_uploads() -> None:
    highest = 0

    async def watch(pid: int) -> None:
        nonlocal highest
        while True:
            highest = max(highest, psutil.Process(pid).memory_info().rss)
            await asyncio.sleep(0.01)

    async with (
        FakeAsr().running() as asr,
        process(
            FLOTILLA_GATEWAY_ASR_ADDRESSES=asr.address,
            FLOTILLA_GATEWAY_LLM_ADDRESSES="",
            FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES="",
            FLOTILLA_GATEWAY_VISION_ADDRESSES="",
        ) as started,
    ):
        url = f"http://127.0.0.1:{await http_port(records(started))}"
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120) as client:
            await client.get("/v1/models")
            before = psutil.Process(started.pid).memory_info().rss
            watching = asyncio.create_task(watch(started.pid))
            for _ in range(2):
                response = await client.post(TRANSCRIPTIONS, content=upload(), headers=headers)
                assert response.json()["text"] == TEXT
                assert sum(asr.heard.pieces) == SIZE
            watching.cancel()
    assert highest - before < 32 * MB
