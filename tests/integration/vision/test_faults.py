"""Triton killed under load, calls given up, overload, drain, a start that cannot succeed."""

import asyncio
import io
import json
import os

import grpc
import numpy as np
import pytest
from flotilla.vision.v1 import vision_pb2 as pb
from flotilla.vision.v1 import vision_pb2_grpc

from services.common.errors import Kind, from_rpc_error
from tests.integration.vision.known_pictures import images, page
from tests.integration.vision.process import vision_process
from tests.processes import alive
from tests.unit.vision.pictures import encoded, scene
from tests.waiting import until

SMALL = images(encoded(scene(320, 240), "JPEG"))
PAGE = images(page())
MODEL = "efficientnet-lite0"


def classify(channel, count=1, timeout=60.0):
    stub = vision_pb2_grpc.VisionServiceStub(channel)
    return stub.Classify(pb.ClassifyRequest(images=SMALL * count), timeout=timeout)


@pytest.fixture
async def own(model_store, tmp_path):
    async with vision_process(tmp_path) as running:
        yield running


async def idle(service):
    return await service.metric("flotilla_admission_running") == 0


async def test_a_killed_triton_comes_back_under_load(own):
    answers, faults, stopped = [], [], False

    async def client(channel):
        while not stopped:
            try:
                answers.append(await classify(channel))
            except grpc.aio.AioRpcError as error:
                faults.append(error)

    async with own.channel() as channel:
        clients = [asyncio.create_task(client(channel)) for _ in range(8)]
        await until(lambda: len(answers) > 10, "load")
        own.triton().kill()
        await until(lambda: faults, "a fault")
        await own.wait_ready()
        count = len(answers)
        await until(lambda: len(answers) > count + 10, "answers after the restart")
        stopped = True
        await asyncio.gather(*clients)
    assert {from_rpc_error(fault).kind for fault in faults} == {Kind.UNAVAILABLE}
    assert await own.metric("flotilla_triton_restarts") == 1
    await until(lambda: idle(own), "no running calls")


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_call_given_up_frees_its_place_and_is_not_computed(service, channel, streaming):
    stub = vision_pb2_grpc.VisionServiceStub(channel)
    request = pb.ReadTextRequest(images=PAGE * 60)
    done = await service.metric("flotilla_vision_images_total", task="read_text")
    begun = await service.metric("flotilla_vision_decode_queue_time_seconds_count")
    call = stub.InferStream(pb.InferStreamRequest(read_text=request)) if streaming else stub.ReadText(request)
    reading = asyncio.ensure_future(call.read() if streaming else call)

    async def decoding():
        return await service.metric("flotilla_vision_decode_queue_time_seconds_count") > begun

    await until(decoding, "the first picture")
    call.cancel()
    await asyncio.wait({reading})
    await until(lambda: idle(service), "no running calls")
    await classify(channel)
    assert await service.metric("flotilla_vision_images_total", task="read_text") < done + 20


async def test_a_call_that_expires_is_not_computed(service, channel):
    done = await service.metric("flotilla_vision_images_total", task="read_text")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vision_pb2_grpc.VisionServiceStub(channel).ReadText(pb.ReadTextRequest(images=PAGE * 60), timeout=1)
    assert from_rpc_error(caught.value).kind is Kind.DEADLINE_EXCEEDED
    await until(lambda: idle(service), "no running calls")
    assert await service.metric("flotilla_vision_images_total", task="read_text") < done + 30


async def test_small_calls_overtake_a_large_one(service, channel):
    stub = vision_pb2_grpc.VisionServiceStub(channel)
    heavy = asyncio.ensure_future(stub.ReadText(pb.ReadTextRequest(images=PAGE * 60)))

    async def running():
        return not await idle(service)

    await until(running, "the heavy call")
    for _ in range(3):
        await classify(channel)
    assert not heavy.done()
    heavy.cancel()
    await asyncio.wait({heavy})
    await until(lambda: idle(service), "no running calls")


async def test_overload_is_refused_with_a_time_to_come_back(model_store, tmp_path):
    environment = {"FLOTILLA_VISION_ADMISSION_CONCURRENCY": "2", "FLOTILLA_VISION_ADMISSION_QUEUE": "2"}
    async with vision_process(tmp_path, environment) as service, service.channel() as channel:
        results = await asyncio.gather(*(classify(channel, 8) for _ in range(40)), return_exceptions=True)
        faults = [from_rpc_error(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
        assert faults
        assert len(faults) + sum(isinstance(result, pb.ClassifyResponse) for result in results) == 40
        assert {fault.kind for fault in faults} == {Kind.OVERLOADED}
        assert all(fault.retry_after for fault in faults)
        assert await service.metric("flotilla_saturation") > 0
        await classify(channel)


async def test_sigterm_under_load_loses_no_accepted_call(own):
    descendants = own.descendants()
    async with own.channel() as channel:
        calls = [asyncio.ensure_future(classify(channel, 4)) for _ in range(30)]

        async def accepted():
            answered = await own.metric("rpc_server_call_duration_seconds_count")
            return await own.metric("flotilla_admission_running") + answered >= 30

        await until(accepted, "30 accepted calls")
        own.terminate()
        assert [len((await call).results) for call in calls] == [4] * 30
    assert await own.exit_code() == 0
    assert not alive(descendants)
    assert "Traceback" not in own.log


def broken_store(source, target):
    """A copy of the classifier's part of the store whose self-test expects something else."""
    (target / "blobs/sha256").mkdir(parents=True)
    (target / "models").mkdir()
    for path in (source.root / "models").glob("*.json"):
        index = json.loads(path.read_text())
        for artifact in index["artifacts"].values():
            link = target / "blobs/sha256" / artifact["sha256"]
            if not link.exists():
                os.link(source.blob_path(artifact["sha256"]), link)
        (target / "models" / path.name).write_text(json.dumps(index))
    index = json.loads(source.index_path(MODEL).read_text())
    digest = index["artifacts"]["model.selftest.npz"]["sha256"]
    with np.load(source.blob_path(digest)) as samples:
        arrays = dict(samples)
    arrays["out:logits"] = -arrays["out:logits"]
    changed = io.BytesIO()
    np.savez_compressed(changed, **arrays)
    path = target / "blobs/sha256" / digest
    path.unlink()
    path.write_bytes(changed.getvalue())
    index["artifacts"]["model.selftest.npz"]["size"] = path.stat().st_size
    (target / "models" / f"{MODEL}.json").write_text(json.dumps(index))
    return {"FLOTILLA_MODEL_STORE": str(target)}


async def test_a_failing_self_test_stops_the_start(model_store, tmp_path):
    environment = broken_store(model_store, tmp_path / "store")
    service = vision_process(tmp_path / "state", environment)
    assert await service.exit_code() == 1
    (message,) = service.messages("ERROR")
    assert "self-test: 'logits' of 'efficientnet_lite0' is off" in message
    assert "Traceback" not in service.log


async def test_an_empty_store_says_what_to_run(tmp_path):
    service = vision_process(tmp_path / "state", {"FLOTILLA_MODEL_STORE": str(tmp_path / "empty")})
    assert await service.exit_code() == 1
    assert f"tools/models fetch {MODEL}" in service.messages("ERROR")[0]
