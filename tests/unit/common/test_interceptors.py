import asyncio

import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2

from services.common.errors import TABLE, Kind, ServiceError, from_rpc_error
from services.common.interceptors import Boundary
from tests.waiting import until

SERVICE = embedding_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].full_name


class Server:
    """A real gRPC server on a loopback port whose one method raises `fault` or hangs."""

    def __init__(self):
        self.fault, self.refusing, self.begun, self.cancelled = None, False, False, False

    async def unary(self, request, context):
        self.begun = True
        if self.fault == "hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if self.fault:
            raise self.fault
        return request


@pytest.fixture
async def server(telemetry):
    made = Server()
    handlers = {"ListModels": grpc.unary_unary_rpc_method_handler(made.unary, request_deserializer=bytes)}
    running = grpc.aio.server(interceptors=[Boundary(telemetry, lambda: made.refusing)])
    names = (SERVICE, "made.up.Service")
    running.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers) for name in names])
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        made.call = channel.unary_unary(f"/{SERVICE}/ListModels")
        made.unknown = channel.unary_unary("/made.up.Service/ListModels")
        yield made
    await running.stop(0)


async def failure(server):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.call(b"x", timeout=30)
    return caught.value


@pytest.mark.parametrize("kind", Kind)
async def test_every_kind_crosses_a_real_server(server, telemetry, kind):
    server.fault = ServiceError(kind, "what happened", field="f", retry_after=1.5)
    error = await failure(server)
    back = from_rpc_error(error)
    assert error.code() is TABLE[kind].grpc
    assert (back.kind, back.message, back.field, back.retry_after) == (kind, "what happened", "f", 1.5)
    labels = {"rpc_method": f"{SERVICE}/ListModels", "rpc_response_status_code": TABLE[kind].grpc.name}
    await until(lambda: telemetry.value("rpc_server_call_duration_seconds_count", **labels) == 1)  # after the answer


async def test_an_unknown_fault_tells_nothing_and_is_logged(server, caplog):
    server.fault = ZeroDivisionError("secret")
    error = await failure(server)
    assert from_rpc_error(error).kind is Kind.INTERNAL
    assert "secret" not in error.details()
    assert any(record.exc_info for record in caplog.records)


async def test_a_refusing_server_has_not_started_the_call(server):
    server.refusing = True
    assert from_rpc_error(await failure(server)).kind is Kind.NOT_STARTED


async def test_a_cancelled_call_cancels_the_work_and_logs_nothing(server, telemetry, caplog):
    server.fault = "hang"
    call = server.call(b"x")
    task = asyncio.ensure_future(call)
    await until(lambda: server.begun)
    call.cancel()
    await asyncio.wait({task})
    await until(lambda: server.cancelled)
    labels = {"rpc_method": f"{SERVICE}/ListModels", "rpc_response_status_code": "CANCELLED"}
    await until(lambda: telemetry.value("rpc_server_call_duration_seconds_count", **labels) == 1)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_made_up_method_makes_no_time_series_of_its_own(server, telemetry):
    await server.unknown(b"x", timeout=30)
    labels = {"rpc_method": "_OTHER", "rpc_response_status_code": "OK"}
    await until(lambda: telemetry.value("rpc_server_call_duration_seconds_count", **labels) == 1)
