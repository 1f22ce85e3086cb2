"""Bodies that are too big or too slow, and clients that leave, over real sockets."""

import asyncio
import json

from tests.bad_requests import connected, head, status_line
from tests.integration.gateway.fake_embedding import MODEL, FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running

BODY = json.dumps({"model": MODEL, "input": "hello"}).encode()


async def test_a_declared_length_over_the_limit_is_refused_at_once(gateway: Gateway) -> None:
    async with connected(gateway.http_port) as (reader, writer):
        writer.write(head(100 * 1024 * 1024))
        assert b" 413 " in await status_line(reader)
    assert (await gateway.embed()).status_code == 200


async def test_a_body_of_100_mb_is_refused_and_the_connection_lives_on(gateway: Gateway) -> None:
    response = await gateway.http.post(
        "/v1/embeddings", content=b" " * 100_000_000, headers={"content-type": "application/json"}
    )
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert "limit" in response.json()["error"]["message"]
    assert (await gateway.embed()).status_code == 200


async def test_an_undeclared_length_over_the_limit_is_refused_while_it_arrives(embedding: FakeEmbedding) -> None:
    async with (
        running(embedding.address, body_limit_bytes=4096) as gateway,
        connected(gateway.http_port) as (reader, writer),
    ):
        writer.write(head(None) + b"2000\r\n" + b" " * 0x2000 + b"\r\n")
        assert b" 413 " in await status_line(reader)
    assert embedding.requests == []


async def test_a_slow_body_is_408_and_the_connection_is_closed(embedding: FakeEmbedding) -> None:
    async with running(embedding.address, body_timeout_seconds=0.05) as gateway:
        async with connected(gateway.http_port) as (reader, writer):
            writer.write(head(len(BODY)) + BODY[:5])
            answer = await asyncio.wait_for(reader.read(), 10)
        assert b" 408 " in answer.splitlines()[0]
        assert b"timeout_error" in answer
        assert (await gateway.embed()).status_code == 200


async def test_a_client_that_leaves_cancels_the_call_to_the_service(gateway: Gateway, embedding: FakeEmbedding) -> None:
    embedding.behave = embedding.hang
    async with connected(gateway.http_port) as (_, writer):
        writer.write(head(len(BODY)) + BODY)
        await asyncio.wait_for(embedding.entered.wait(), 10)
    await asyncio.wait_for(embedding.cancelled.wait(), 10)
    embedding.behave = None
    assert (await gateway.embed()).status_code == 200
    assert 'http_response_status_code="499"' in gateway.telemetry.prometheus_text()


async def test_a_half_closed_connection_counts_as_left(gateway: Gateway, embedding: FakeEmbedding) -> None:
    embedding.behave = embedding.hang
    async with connected(gateway.http_port) as (_, writer):
        writer.write(head(len(BODY)) + BODY)
        await asyncio.wait_for(embedding.entered.wait(), 10)
        writer.write_eof()
        await asyncio.wait_for(embedding.cancelled.wait(), 10)
    embedding.behave = None
    assert (await gateway.embed()).status_code == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_reaches_no_service(
    gateway: Gateway, embedding: FakeEmbedding
) -> None:
    async with connected(gateway.http_port) as (_, writer):
        writer.write(head(len(BODY)) + BODY[:5])
        await writer.drain()
    assert (await gateway.embed()).status_code == 200
    assert len(embedding.requests) == 1


async def test_garbage_instead_of_http_is_400(gateway: Gateway) -> None:
    async with connected(gateway.http_port) as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\x00garbage\r\n\r\n")
        assert b" 400 " in await status_line(reader)
    assert (await gateway.embed()).status_code == 200


async def test_a_refusal_reaches_a_client_that_still_sends_on_its_last_request(gateway: Gateway) -> None:
    """The body is read before the connection is closed, which would otherwise be reset."""
    body = b" " * 4_000_000
    start = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    for _ in range(10):
        async with connected(gateway.http_port) as (reader, writer):
            writer.write(start.encode())
            await writer.drain()
            writer.write(body)
            await writer.drain()
            answer = await asyncio.wait_for(reader.read(), 10)
        assert b" 415 " in answer.splitlines()[0]
        assert b"content-type must be application/json" in answer
