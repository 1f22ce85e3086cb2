"""What HTTP connections may not do, and what answers tell browsers."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running


async def exchange(gateway: Gateway, *parts: bytes) -> bytes:
    """Send bytes and return all that comes until the gateway closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.http_port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


def read(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    error: dict[str, Any] = json.loads(body)["error"]
    assert b"connection: close" in head
    assert b"x-request-id: " in head
    return int(head.split()[1]), error


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"x-large: " + b"a" * 40_000 + b"\r\n\r\n", "32768 bytes"),
        (b"x-large: " + b"a" * 20_000 + b"\r\nx-more: " + b"a" * 20_000 + b"\r\n\r\n", "32768 bytes"),
        (b"x: y\r\n" * 101 + b"\r\n", "100 headers"),
    ],
)
async def test_large_headers_are_refused(gateway: Gateway, head: bytes, words: str) -> None:
    status, error = read(await exchange(gateway, b"GET /v1/models HTTP/1.1\r\nhost: a\r\n" + head))
    assert (status, error["type"]) == (431, "invalid_request_error")
    assert words in error["message"]
    assert (await gateway.http.get("/v1/health/live")).status_code == 200


async def test_a_header_without_end_is_cut_off(gateway: Gateway) -> None:
    with contextlib.suppress(ConnectionError):  # it has no end, so the answer may be lost
        answer = await exchange(gateway, b"GET / HTTP/1.1\r\nx-endless: ", *[b"a" * 65_536] * 100)
        assert answer.startswith(b"HTTP/1.1 431")
    assert (await gateway.http.get("/v1/health/live")).status_code == 200


async def test_a_long_url_is_refused(gateway: Gateway) -> None:
    status, _ = read(await exchange(gateway, b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n"))
    assert status == 431


async def test_headers_that_are_large_enough_pass(gateway: Gateway) -> None:
    response = await gateway.http.get("/v1/health/live", headers={"x-large": "a" * 30_000})
    assert response.status_code == 200


async def test_what_is_no_request_gets_an_error_of_the_usual_form(gateway: Gateway) -> None:
    status, error = read(await exchange(gateway, b"\x16\x03\x01 this is TLS\r\n\r\n"))
    assert (status, error["type"]) == (400, "invalid_request_error")


async def test_slow_headers_time_out(embedding: FakeEmbedding) -> None:
    async with running(embedding.address, header_timeout_seconds=0.2) as gateway:
        status, error = read(await exchange(gateway, b"GET / HTTP/1.1\r\n", b"host: a\r\n"))
        assert (status, error["type"]) == (408, "timeout_error")
        assert await exchange(gateway) == b""
        assert (await gateway.embed()).status_code == 200
        await asyncio.sleep(0.3)  # between requests the keep-alive time counts, not this one
        assert (await gateway.embed()).status_code == 200


async def test_a_slow_body_times_out(embedding: FakeEmbedding) -> None:
    async with running(embedding.address, body_timeout_seconds=0.2) as gateway:
        head = (
            b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
        )
        answer = await exchange(gateway, head, b"{")
        assert answer.startswith(b"HTTP/1.1 408")


async def test_a_caller_that_does_not_read_is_cut_off(embedding: FakeEmbedding) -> None:
    async with running(embedding.address, send_timeout_seconds=0.3) as gateway:
        body = json.dumps({"model": "fake-model", "input": ["a"] * 2048}).encode()
        head = (
            b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        )
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.http_port, limit=1024)
        request = head % len(body) + body
        with pytest.raises(ConnectionError):  # answers to all of these are never read
            for _ in range(2000):
                writer.write(request)
                await asyncio.wait_for(writer.drain(), 30)
        writer.close()
        assert (await gateway.embed()).status_code == 200


async def test_security_headers_are_on_every_answer(gateway: Gateway) -> None:
    for path in ("/v1/models", "/nope", "/v1/health/live"):
        headers = (await gateway.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "strict-transport-security" not in headers
        assert "server" not in headers
