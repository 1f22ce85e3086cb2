"""Faults: Triton, its stubs or the service killed under load; overload; a start that cannot succeed."""

import asyncio
import json
import os
import socket

import grpc
import psutil
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.errors import Kind, from_rpc_error
from tests.integration.conftest import MODEL
from tests.integration.service_process import ServiceProcess
from tests.processes import alive
from tests.waiting import until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
TEXT = "a few words that keep the engine busy " * 8


def embed(channel, texts=1, timeout=60.0):
    stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
    return stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text=TEXT)] * texts), timeout=timeout)


class Clients:
    """Callers that go on until told to stop; counts answers and keeps faults."""

    def __init__(self, channel, count=16):
        self.answers, self.faults = 0, []
        self._channel, self._stopped = channel, False
        self._tasks = [asyncio.ensure_future(self._call()) for _ in range(count)]

    async def _call(self):
        while not self._stopped:
            try:
                await embed(self._channel, texts=4)
                self.answers += 1
            except grpc.aio.AioRpcError as error:
                self.faults.append(error)
                await asyncio.sleep(0.05)  # who asks again at once takes the CPU from what is being restarted

    async def stop(self):
        self._stopped = True
        await asyncio.gather(*self._tasks)


@pytest.fixture
async def own(model_store, tmp_path):
    async with ServiceProcess(tmp_path) as running:
        yield running


def victim(service, what):
    return service.triton() if what == "tritonserver" else service.stubs()[0]


@pytest.mark.parametrize("what", ["tritonserver", "stub"])
async def test_a_killed_triton_comes_back(own, what):
    async with own.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        clients = Clients(channel)
        await until(lambda: clients.answers > 10, "load")
        before = own.descendants()
        victim(own, what).kill()
        assert (await watch.read()).status == NOT_SERVING
        body = (await own.get("/v1/health/ready")).json()
        assert not body["ready"]
        assert "triton" in body["message"]
        assert (await watch.read()).status == SERVING
        await own.wait_ready()
        answers = clients.answers
        await until(lambda: clients.answers > answers + 10, "answers after the restart")
        await clients.stop()
        assert {from_rpc_error(fault).kind for fault in clients.faults} == {Kind.UNAVAILABLE}
        assert all(from_rpc_error(fault).retry_after for fault in clients.faults)
        assert not alive(before), "the old tree is gone"
        assert await own.metric("flotilla_triton_restarts") == 1
        assert await own.metric("flotilla_admission_running") == 0
        watch.cancel()


async def test_the_first_call_after_readiness_returns_works(own):
    async with own.channel() as channel:
        own.triton().kill()

        async def down():
            return not await own.ready()

        await until(down, "readiness to drop")
        await own.wait_ready()
        await embed(channel)


@pytest.mark.parametrize("what", ["tritonserver", "stubs"])
async def test_a_triton_that_hangs_fails_calls_in_time_and_is_restarted(model_store, tmp_path, what):
    environment = {"FLOTILLA_EMBEDDING_BATCH_TIMEOUT_SECONDS": "1", "FLOTILLA_CPU_THREADS": "2"}
    async with ServiceProcess(tmp_path, environment) as service, service.channel() as channel:
        before = [service.triton(), *service.stubs()]
        for process in [service.triton()] if what == "tritonserver" else service.stubs():
            process.suspend()
        kinds = set()

        async def hangs():
            try:
                await embed(channel)
            except grpc.aio.AioRpcError as error:
                kinds.add(from_rpc_error(error).kind)
            return not await service.ready()

        await until(hangs, "readiness to drop")
        await service.wait_ready()
        await embed(channel)
        assert kinds <= {Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED}
        assert kinds
        assert not alive(before)
        assert await service.metric("flotilla_triton_restarts") == 1


async def test_sigterm_under_load_loses_no_accepted_call(own):
    descendants = own.descendants()
    async with own.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        calls = [asyncio.ensure_future(embed(channel, texts=8)) for _ in range(100)]

        async def accepted():
            answered = await own.metric("rpc_server_call_duration_seconds_count")
            return await own.metric("flotilla_admission_running") + answered >= 100

        await until(accepted, "100 accepted calls")
        own.terminate()
        assert [len((await call).embeddings) for call in calls] == [8] * 100
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
    assert await own.exit_code() == 0
    assert not alive(descendants)
    assert "Traceback" not in own.log


async def test_a_call_after_sigterm_was_not_started(model_store, tmp_path):
    async with ServiceProcess(tmp_path) as service, service.channel() as channel:
        running = asyncio.ensure_future(embed(channel, texts=500))

        async def accepted():
            return await service.metric("flotilla_admission_running") == 1

        await until(accepted, "a running call")
        service.terminate()
        await until(lambda: "finishing calls in flight" in service.log, "the drain")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await embed(channel)
        assert from_rpc_error(caught.value).kind in (Kind.NOT_STARTED, Kind.UNAVAILABLE)
        await running
        assert await service.exit_code() == 0


async def test_the_service_killed_leaves_no_orphans(model_store, tmp_path):
    async with ServiceProcess(tmp_path) as service:
        descendants = service.descendants()
        assert len(descendants) >= 3
        service.kill()
        await until(lambda: not alive(descendants), "the death of Triton and its stubs")


async def test_sigterm_during_start_is_a_clean_exit(model_store, tmp_path):
    service = ServiceProcess(tmp_path)
    await until(lambda: any("tritonserver" in p.name() for p in service.descendants()), "Triton")
    descendants = service.descendants()
    service.terminate()
    assert await service.exit_code() == 0
    assert not alive(descendants)
    assert "Traceback" not in service.log


async def test_overload_is_refused_with_a_time_to_come_back(model_store, tmp_path):
    environment = {"FLOTILLA_EMBEDDING_ADMISSION_CONCURRENCY": "4", "FLOTILLA_EMBEDDING_ADMISSION_QUEUE": "8"}
    async with ServiceProcess(tmp_path, environment) as service, service.channel() as channel:
        await embed(channel)
        before = psutil.Process(service.pid).memory_info().rss
        results = await asyncio.gather(*(embed(channel) for _ in range(1000)), return_exceptions=True)
        faults = [from_rpc_error(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
        answers = [result for result in results if isinstance(result, pb.EmbedResponse)]
        assert len(faults) + len(answers) == 1000
        assert len(answers) >= 12
        assert {fault.kind for fault in faults} == {Kind.OVERLOADED}
        assert all(fault.retry_after and fault.retry_after >= 0.1 for fault in faults)
        assert await service.metric("flotilla_admission_rejected_total", reason="queue_full") == len(faults)
        assert psutil.Process(service.pid).memory_info().rss - before < 100 * 2**20
        await embed(channel)


def broken_store(source, target):
    """A copy of the store whose self-test expects another vector."""
    index = json.loads(source.index_path(MODEL).read_text())
    (target / "blobs/sha256").mkdir(parents=True)
    (target / "models").mkdir()
    for artifact in index["artifacts"].values():
        os.link(source.blob_path(artifact["sha256"]), target / "blobs/sha256" / artifact["sha256"])
    digest = index["artifacts"]["selftest.json"]["sha256"]
    document = json.loads(source.blob_path(digest).read_text())
    document["cases"][0]["vector"].reverse()
    path = target / "blobs/sha256" / digest
    path.unlink()
    path.write_text(json.dumps(document))
    index["artifacts"]["selftest.json"]["size"] = path.stat().st_size
    (target / "models" / f"{MODEL}.json").write_text(json.dumps(index))
    return {"FLOTILLA_MODEL_STORE": str(target)}


async def cannot_start(state, environment) -> str:
    service = ServiceProcess(state, environment)
    assert await service.exit_code() == 1
    assert "Traceback" not in service.log
    (message,) = service.messages("ERROR")
    return message


async def test_an_empty_store_says_what_to_run(tmp_path):
    message = await cannot_start(tmp_path / "state", {"FLOTILLA_MODEL_STORE": str(tmp_path / "empty")})
    assert f"tools/models fetch {MODEL}" in message


async def test_a_misspelt_profile_names_those_there_are(model_store, tmp_path):
    message = await cannot_start(tmp_path, {"FLOTILLA_EMBEDDING_PROFILE": "cpu-fp23"})
    assert "'cpu-fp23'" in message
    assert "cpu-fp32" in message


@pytest.mark.parametrize("setting", ["HTTP_PORT", "GRPC_PORT"])
async def test_a_port_in_use_is_named(model_store, tmp_path, setting):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = await cannot_start(tmp_path, {f"FLOTILLA_EMBEDDING_{setting}": str(port)})
    assert f"127.0.0.1:{port}" in message


async def test_a_failing_self_test_stops_the_start(model_store, tmp_path):
    message = await cannot_start(tmp_path / "state", broken_store(model_store, tmp_path / "store"))
    assert "self-test" in message


async def test_a_damaged_model_stops_the_start_with_tritons_reason(model_store, tmp_path):
    environment = broken_store(model_store, tmp_path / "store")
    index = json.loads((tmp_path / "store/models" / f"{MODEL}.json").read_text())
    path = tmp_path / "store/blobs/sha256" / index["artifacts"]["model.onnx"]["sha256"]
    size = path.stat().st_size
    path.unlink()
    with path.open("wb") as file:
        file.truncate(size)
    service = ServiceProcess(tmp_path / "state", environment)
    assert await service.exit_code() == 1
    assert "cannot start: Triton exited" in service.messages("ERROR")[-1]


async def test_an_unwritable_state_folder_is_one_line(model_store, tmp_path):
    (tmp_path / "embedding").write_text("a file where a folder must be")
    assert str(tmp_path / "embedding") in await cannot_start(tmp_path, {})


async def test_a_bad_setting_is_one_line(tmp_path):
    service = ServiceProcess(tmp_path, {"FLOTILLA_EMBEDDING_MAX_BATCH_ITEMS": "many"})
    assert await service.exit_code() == 2
    (line,) = service.log.splitlines()
    assert line.startswith("FLOTILLA_EMBEDDING_MAX_BATCH_ITEMS='many': ")
