"""Files written down by a real service."""

from itertools import pairwise

import grpc
import numpy as np
import pytest
from flotilla.asr.v1 import asr_pb2 as pb

from services.common.errors import Kind, from_rpc_error
from services.gateway.ending import Ending
from tests.integration.asr.calls import BASE, RAW, TINY, long_recording, plain, raw, requests, responses
from tests.unit.asr.speech import JFK, JFK_WORDS, samples_of, silence
from tests.waiting import until

BOTH = pytest.mark.parametrize("model", [BASE, TINY])


def ask(stub, file=None, **config):
    data = JFK.read_bytes() if file is None else file
    return stub.Transcribe(pb.TranscribeRequest(config=pb.TranscriptionConfig(**config), audio=data))


@BOTH
async def test_what_is_said(stub, model):
    answer = await ask(stub, model=model)
    assert plain(answer.text) == JFK_WORDS
    assert (answer.summary.model, answer.summary.language) == (model, "en")
    assert answer.summary.duration == pytest.approx(11, abs=0.01)
    assert 6 < answer.summary.usage.speech_seconds < 10


async def test_the_default_is_the_multilingual_model(stub):
    answer = await ask(stub)
    assert answer.summary.model == BASE
    assert answer.summary.language_probability > 0.8


@BOTH
async def test_words_lie_where_they_are_said(stub, model):
    answer = await ask(stub, model=model, word_timestamps=True)
    words = [word for segment in answer.segments for word in segment.words]
    assert plain(" ".join(word.text for word in words)) == JFK_WORDS
    for segment in answer.segments:
        assert all(segment.start <= word.start <= word.end <= segment.end for word in segment.words)
    assert all(one.end <= other.start for one, other in pairwise(words))
    starts = {plain(word.text): word.start for word in words[:8]}
    assert starts["ask"] == pytest.approx(3.3, abs=0.4)  # after a pause of a second
    assert words[-1].end == pytest.approx(10.6, abs=0.5)
    assert all(0 < word.confidence <= 1 for word in words)


async def test_alternatives(stub):
    answer = await ask(stub, max_alternatives=5)
    assert plain(answer.text) == JFK_WORDS
    texts = [plain(answer.text), *(plain(other.text) for other in answer.segments[0].alternatives)]
    assert 1 <= len(texts) <= 5
    assert len(set(texts)) == len(texts)


async def test_translation_of_english_is_english(stub):
    answer = await ask(stub, task=pb.TASK_TRANSLATE, language="english")
    assert "country" in plain(answer.text)


async def test_hot_words_and_a_prompt(stub):
    answer = await ask(stub, prompt="The speech of 1961. " * 200, hot_words=["Kennedy", "Washington"])
    assert "ask what you can do for your country" in plain(answer.text)


async def test_a_temperature(stub):
    answer = await ask(stub, temperature=0.4)
    assert answer.segments[0].temperature == pytest.approx(0.4)
    assert "country" in plain(answer.text)


async def test_channels_apart(stub):
    one, other = samples_of(JFK), np.concatenate([silence(11), samples_of(JFK)])
    both = np.stack([np.concatenate([one, silence(11)]), other], axis=1)
    audio = pb.AudioFormat(encoding=RAW.encoding, sample_rate_hz=RAW.sample_rate_hz, channels=2)
    answer = await ask(stub, raw(both), separate_channels=True, audio=audio, model=TINY)
    for channel in (0, 1):
        text = "".join(segment.text for segment in answer.segments if segment.channel == channel)
        assert plain(text) == JFK_WORDS
    starts = [segment.start for segment in answer.segments]
    assert starts == sorted(starts)
    assert {segment.channel for segment in answer.segments if segment.start < 10.9} == {0}


async def test_a_long_file_comes_segment_by_segment_with_its_progress(stub):
    recording = long_recording(6)
    found = [answer async for answer in responses(stub, raw(recording), model=TINY, audio=RAW)]
    segments = [answer.segment for answer in found if answer.HasField("segment")]
    assert [segment.index for segment in segments] == list(range(len(segments)))
    assert plain("".join(segment.text for segment in segments)).count("ask not what your country can do for you") == 6
    assert all(segment.start <= segment.end for segment in segments)
    assert all(one.end <= other.start + 0.01 for one, other in pairwise(segments))
    assert max(segment.end - segment.start for segment in segments) < 15
    done = [answer.progress.done_seconds for answer in found]
    assert done == sorted(done)
    assert done[-1] == found[-1].progress.total_seconds == pytest.approx(len(recording) / 16_000, abs=0.01)
    assert found[-1].HasField("summary")
    assert sum(answer.HasField("summary") for answer in found) == 1


async def test_a_call_given_up_is_not_read_to_its_end(service, stub):
    async def idle():
        return await service.metric("flotilla_admission_running") == 0

    before = await service.metric("flotilla_batch_items_sum", model="whisper_base")
    call = stub.TranscribeFile(requests(raw(long_recording(40)), audio=RAW))
    async for answer in call:
        if answer.HasField("segment"):
            break
    call.cancel()
    await until(idle, "no running calls")
    assert plain((await ask(stub)).text) == JFK_WORDS
    assert await service.metric("flotilla_batch_items_sum", model="whisper_base") < before + 30  # of more than 40


async def test_a_deadline_ends_the_work(service, stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.TranscribeFile(requests(raw(long_recording(40)), audio=RAW), timeout=3):
            pass
    assert from_rpc_error(caught.value).kind is Kind.DEADLINE_EXCEEDED

    async def idle():
        return await service.metric("flotilla_admission_running") == 0

    await until(idle, "no running calls")


@pytest.mark.parametrize(
    ("config", "data", "kind", "field"),
    [
        ({"language": "klingon"}, b"x", Kind.INVALID_ARGUMENT, "config.language"),
        ({"model": TINY, "language": "german"}, b"x", Kind.INVALID_ARGUMENT, "config.language"),
        ({"model": TINY, "task": pb.TASK_TRANSLATE}, b"x", Kind.INVALID_ARGUMENT, "config.task"),
        ({"temperature": float("nan")}, b"x", Kind.INVALID_ARGUMENT, "config.temperature"),
        ({"hot_words": ["a"] * 101}, b"x", Kind.INVALID_ARGUMENT, "config.hot_words"),
        ({"speech_threshold": 1.0}, b"x", Kind.INVALID_ARGUMENT, "config.speech_threshold"),
        ({"model": "whisper-large"}, b"x", Kind.NOT_FOUND, "config.model"),
        ({}, b"", Kind.INVALID_ARGUMENT, "audio"),
        ({}, b"this is a letter" * 100, Kind.INVALID_ARGUMENT, "audio"),
        ({"audio": pb.AudioFormat(encoding=1)}, b"xx", Kind.INVALID_ARGUMENT, "config.audio.sample_rate_hz"),
        ({"audio": RAW}, b"xxx", Kind.INVALID_ARGUMENT, "audio"),
    ],
)
async def test_what_is_wrong_is_named_and_the_next_call_works(stub, config, data, kind, field):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(stub, data, **config)
    call = stub.TranscribeFile(requests(data, **config))
    ending = Ending(call)  # as it may end while the audio is still being sent
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    for fault in (caught.value, await ending.meant(ended.value)):
        error = from_rpc_error(fault)
        assert (error.kind, error.field) == (kind, field)
    assert plain((await ask(stub, model=TINY)).text) == JFK_WORDS
