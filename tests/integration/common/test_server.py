"""The HTTP listener over real sockets."""

import asyncio

import pytest

from services.common import server
from services.common.server import HttpListener
from tests.bad_requests import connected, status_line
from tests.waiting import until


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def refused(port: int) -> bool:
    try:
        async with connected(port):
            return False
    except ConnectionError:
        return True


async def test_a_request_on_its_way_when_the_port_closes_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER_SECONDS", 30.0)
    listener = HttpListener(app, "127.0.0.1", 0, ws="none", lifespan="off")
    await listener.start()
    async with connected(listener.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")  # so that the connection is known to be accepted
        assert b" 200 " in await status_line(reader)
        await reader.readuntil(b"\r\n\r\n")
        stopping = asyncio.ensure_future(listener.stop(60))
        await until(lambda: refused(listener.port), "the port to close")
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b" 200 " in await status_line(reader)
        await reader.read()
    await stopping
