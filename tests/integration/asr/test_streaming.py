"""Live streams through a real service: results, events, several at a time, and what is refused."""

import asyncio
import itertools

import grpc
import numpy as np
import pytest
from flotilla.asr.v1 import asr_pb2 as pb

from services.common.errors import Kind, from_rpc_error
from tests.integration.asr.live_calls import PIECE, TINY, answer, audio, config, jfk, pcm, spoken
from tests.integration.service_process import ServiceProcess
from tests.unit.asr.speech import NOVEL, RATE, samples_of, silence
from tests.waiting import until

ENDING = "ask what you can do for your country"


async def test_a_live_stream_has_interims_events_and_finals_with_the_times_of_the_stream(stub):
    found = await answer(stub, spoken(config(interim_results=True), jfk(tail=1.0), live=True))
    assert found.fault is None
    assert "what your country can do for you" in found.words and found.words.endswith(ENDING)
    assert found.interims and all(0 <= interim.stability <= 1 for interim in found.interims)
    assert [segment.index for segment in found.finals] == list(range(len(found.finals)))
    kinds = [event.kind for event in found.events]
    assert kinds == [pb.SpeechEvent.KIND_SPEECH_STARTED, pb.SpeechEvent.KIND_SPEECH_ENDED] * (len(kinds) // 2)
    words = [word for segment in found.finals for word in segment.words]
    assert all(a.start <= a.end <= b.start + 0.01 for a, b in itertools.pairwise(words))
    assert 0 < words[0].start < 1.5 and 9.5 < words[-1].end < 11.2
    assert found.summary is not None
    assert found.summary.duration == pytest.approx(12.0, abs=0.05)
    assert 5 < found.summary.usage.speech_seconds < 11 and found.summary.usage.output_tokens > 20


@pytest.mark.parametrize("piece", [1, 7919, RATE * 60])
async def test_pieces_of_any_length_faster_than_real_time(stub, piece: int):
    samples = jfk()[: 3 * RATE] if piece == 1 else jfk()
    found = await answer(stub, spoken(config(), samples[: 2 * RATE] if piece == 1 else samples, piece=max(piece, 16)))
    assert found.fault is None and found.summary is not None
    assert "fellow" in found.words if piece == 1 else found.words.endswith(ENDING)
    assert not found.interims


async def test_channels_are_heard_apart(stub):
    one, other = jfk(), samples_of(NOVEL)
    both = np.zeros((max(len(one), len(other)), 2), np.float32)
    both[: len(one), 0], both[: len(other), 1] = one, other
    found = await answer(stub, spoken(config(channels=2), both.reshape(-1)))
    texts = {
        channel: " ".join(segment.text for segment in found.finals if segment.channel == channel).lower()
        for channel in (0, 1)
    }
    assert "country" in texts[0] and "leisure" in texts[1] and "leisure" not in texts[0]
    assert found.summary is not None and found.summary.usage.audio_seconds == pytest.approx(len(both) / RATE * 2, abs=1)


async def test_a_single_utterance_ends_the_stream(stub):
    samples = np.concatenate([samples_of(NOVEL), silence(3.0), jfk()])
    found = await answer(stub, spoken(config(single_utterance=True), samples))
    assert len(found.finals) == 1 and "leisure" in found.words and found.summary is not None


async def test_a_minute_without_a_pause_is_divided_and_complete(stub):
    once = jfk()[: int(10.5 * RATE)]
    found = await answer(stub, spoken(config(), np.concatenate([once] * 6)))
    assert found.fault is None
    assert found.words.count("fellow") == 6
    assert all(segment.end - segment.start < 27 for segment in found.finals)


async def test_silence_and_nothing_give_a_summary_alone(stub):
    for samples in (silence(5.0), silence(0.0)):
        found = await answer(stub, spoken(config(interim_results=True), samples))
        assert found.fault is None and found.summary is not None
        assert not found.finals and not found.interims and not found.events


async def test_half_a_sample_and_empty_audio_do_no_harm(stub):
    async def requests():
        async for request in spoken(config(), jfk()):
            yield request
        yield audio(b"")
        yield audio(b"\x01")

    found = await answer(stub, requests())
    assert found.fault is None and found.words.endswith(ENDING)


def _requests(*messages):
    async def requests():
        for message in messages:
            yield message

    return requests()


def _wrong(change) -> pb.StreamingTranscribeRequest:
    request = config()
    change(request.config)
    return request


@pytest.mark.parametrize(
    ("field", "messages"),
    [
        ("config", []),
        ("config", [audio(b"\0\0")]),
        ("config", [config(), config()]),
        ("config", [config(), audio(b"\0" * 3200), config()]),
        ("audio", [config(), pb.StreamingTranscribeRequest()]),
        ("config.config.audio.encoding", [_wrong(lambda c: c.config.audio.ClearField("encoding"))]),
        ("config.config.language", [_wrong(lambda c: setattr(c.config, "language", "klingon"))]),
        ("config.config.task", [_wrong(lambda c: setattr(c.config, "task", pb.TASK_TRANSLATE))]),
        ("config.endpointing.stop_silence_ms", [_wrong(lambda c: setattr(c.endpointing, "stop_silence_ms", 1))]),
        ("config.config.separate_channels", [config(channels=8)]),
        ("audio", [_wrong(lambda c: setattr(c.config.audio, "encoding", pb.ENCODING_FLAC)), audio(b"no flac" * 99)]),
    ],
)
async def test_bad_streams_are_refused_by_name_and_the_next_works(small_stub, field: str, messages: list):
    found = await answer(small_stub, _requests(*messages))
    assert found.fault is not None and found.fault.code() is grpc.StatusCode.INVALID_ARGUMENT, found.fault
    assert from_rpc_error(found.fault).field == field
    assert "leisure" in (await answer(small_stub, spoken(config(), samples_of(NOVEL)))).words


async def test_an_unknown_model_is_not_found(stub):
    found = await answer(stub, _requests(config(model="whisper-enormous")))
    assert found.fault is not None and found.fault.code() is grpc.StatusCode.NOT_FOUND


async def test_a_stream_may_last_so_long_and_no_longer(small_stub):
    found = await answer(small_stub, spoken(config(), np.concatenate([jfk(1.0), jfk(1.0), silence(60.0)])))
    assert found.fault is not None and found.fault.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(found.fault).field == "audio" and "30 s" in str(found.fault.details())


async def test_a_stream_that_sends_nothing_is_ended(small_stub):
    gone = asyncio.Event()

    async def requests():
        yield config()
        await gone.wait()

    found = await answer(small_stub, requests())
    gone.set()
    assert found.fault is not None and from_rpc_error(found.fault).kind is Kind.REQUEST_TIMEOUT


async def test_a_caller_who_leaves_gives_the_place_back_at_once(small: ServiceProcess, small_stub):
    async def talking():
        yield config(interim_results=True)
        while True:
            yield audio(pcm(jfk()[:PIECE]))
            await asyncio.sleep(0.1)

    call = small_stub.StreamingTranscribe(talking())
    await until(lambda: _taken(small, 1), "the place to be taken")
    call.cancel()
    await until(lambda: _taken(small, 0), "the place to be free", limit=5.0)


async def _taken(service: ServiceProcess, places: int) -> bool:
    return await service.metric("flotilla_asr_streams_active") == places


async def test_past_the_last_place_streams_are_refused_with_a_hint(service: ServiceProcess, stub):
    samples, all_refused = jfk(), asyncio.Event()

    async def held():
        requests = spoken(config(TINY), samples)
        yield await anext(requests)
        await all_refused.wait()
        async for request in requests:
            yield request

    async def one():
        found = await answer(stub, held())
        if found.fault is not None:
            refused.append(found)
            if len(refused) == 42:
                all_refused.set()
        return found

    refused: list = []
    found = await asyncio.gather(*(one() for _ in range(50)))
    served = [one for one in found if one.fault is None]
    assert len(served) == 8 and all(one.words.endswith(ENDING) for one in served)
    for one_refused in refused:
        error = from_rpc_error(one_refused.fault)
        assert error.kind is Kind.OVERLOADED and error.code == "streams_full" and error.retry_after >= 1
    assert await service.metric("flotilla_admission_rejected_total", reason="streams_full") >= 42
    await until(lambda: _taken(service, 0), "all places to be free")
