"""Triton killed in the middle of a file, and more files than there is room for."""

import asyncio

import grpc
import pytest
from flotilla.asr.v1 import asr_pb2 as pb
from flotilla.asr.v1 import asr_pb2_grpc

from services.common.errors import Kind, from_rpc_error
from tests.integration.asr.calls import RAW, TINY, long_recording, plain, raw, requests
from tests.integration.asr.process import asr_process
from tests.unit.asr.speech import JFK, JFK_WORDS
from tests.waiting import until


async def test_a_triton_killed_in_mid_file(model_store, tmp_path):
    async with asr_process(tmp_path) as service, service.channel() as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        call = stub.TranscribeFile(requests(raw(long_recording(60)), audio=RAW))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for answer in call:
                if answer.HasField("segment") and answer.segment.index == 0:
                    service.triton().kill()
        assert from_rpc_error(caught.value).kind is Kind.UNAVAILABLE

        async def idle():
            return await service.metric("flotilla_admission_running") == 0

        await until(idle, "no running calls")
        await service.wait_restarted()
        request = pb.TranscribeRequest(config=pb.TranscriptionConfig(model=TINY), audio=JFK.read_bytes())
        assert plain((await stub.Transcribe(request)).text) == JFK_WORDS
        assert not list((tmp_path / "asr" / "audio").iterdir())


async def test_more_files_than_there_is_room_for(model_store, tmp_path):
    environment = {"FLOTILLA_ASR_ADMISSION_CONCURRENCY": "1", "FLOTILLA_ASR_ADMISSION_QUEUE": "1"}
    async with asr_process(tmp_path, environment) as service, service.channel() as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        request = pb.TranscribeRequest(config=pb.TranscriptionConfig(model=TINY), audio=JFK.read_bytes())
        await stub.Transcribe(request)
        offered = await service.metric("flotilla_load_offered")
        results = await asyncio.gather(*(stub.Transcribe(request) for _ in range(12)), return_exceptions=True)
        faults = [from_rpc_error(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
        answers = [result for result in results if isinstance(result, pb.TranscribeResponse)]
        assert len(faults) + len(answers) == 12
        assert answers
        assert faults
        assert {fault.kind for fault in faults} == {Kind.OVERLOADED}
        assert all(fault.retry_after for fault in faults)
        assert {plain(answer.text) for answer in answers} == {JFK_WORDS}
        assert await service.metric("flotilla_admission_rejected_total", reason="queue_full") == len(faults)
        assert await service.metric("flotilla_load_offered") > 9 * offered, "refused ones count"
