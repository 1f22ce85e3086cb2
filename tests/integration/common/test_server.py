"""The listeners over real sockets."""

import asyncio

import grpc
import pytest

from services.common import server
from services.common.interceptors import Boundary
from services.common.server import HttpListener
from tests.bad_requests import connected, status_line
from tests.integration.gateway.fake_embedding import telemetry
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


async def test_with_goaway_first_callers_leave_at_once_and_a_large_answer_is_finished() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def answer(_: bytes, context: object) -> bytes:
        entered.set()
        await release.wait()
        return bytes(30_000_000)

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(answer)

    boundary = Boundary(telemetry(), lambda: False)
    port = server.grpc_server(64 * 1024 * 1024, [boundary])
    port.add_generic_rpc_handlers((Handler(),))
    listener = server.GrpcListener(port, boundary, "127.0.0.1", 0, goaway_first=True)
    await listener.start()
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=options) as channel:
        call = asyncio.ensure_future(channel.unary_unary("/a/b")(b""))
        await entered.wait()
        stopping = asyncio.ensure_future(listener.stop(60))
        await until(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY, "the caller to hear of it")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/a/b")(b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not stopping.done()
        release.set()
        assert len(await call) == 30_000_000
        await stopping
