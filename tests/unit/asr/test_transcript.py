"""Transcripts of recordings whose speech is where samples are loud, read by an engine that says when it was asked."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from services.asr.options import Options
from services.asr.recognition import MOST_SECONDS
from services.asr.transcript import Tools, Transcript
from services.asr.vad import FRAME
from services.common.errors import Kind, ServiceError
from tests.unit.asr.fakes import Engine, languages, reading, recognition
from tests.waiting import until

RATE = 16_000


class LoudVad:
    """Loud frames are speech."""

    def stream(self):
        return LoudStream()


class LoudStream:
    def __init__(self):
        self.rest = np.zeros(0, np.float32)

    def feed(self, samples):
        samples = np.concatenate([self.rest, samples])
        frames = len(samples) // FRAME
        self.rest = samples[frames * FRAME :]
        return np.abs(samples[: frames * FRAME]).reshape(-1, FRAME).max(axis=1)

    def finish(self):
        return self.feed(np.zeros(FRAME - len(self.rest), np.float32)) if len(self.rest) else self.rest


class Recording:
    """Speech of some seconds every so many; made when it is read, so that its length costs nothing."""

    def __init__(self, seconds, every=10.0, speech=4.0, channels=1):
        self.channels, self.samples = channels, round(seconds * RATE)
        self.every, self.speech = every, speech
        self.read_to, self.largest = 0, 0

    @property
    def seconds(self):
        return self.samples / RATE

    def read(self, channel, start, stop):
        stop = min(stop, self.samples)
        self.read_to, self.largest = max(self.read_to, stop), max(self.largest, stop - start)
        time = np.arange(start, stop) / RATE - channel * self.every / 2
        return np.where((time >= 0) & (time % self.every < self.speech), 0.9, 0.0).astype(np.float32)


@pytest.fixture
def engine(vocabulary):
    return Engine(lambda window: reading(vocabulary, f"|0.3| {window.frames}.|4.0|"))


@pytest.fixture
def transcribe(engine, vocabulary, telemetry):
    def make(recording, most_windows=4, **options):
        tools = Tools(recognition(engine, vocabulary, telemetry), LoudVad(), most_windows)
        return Transcript(recording, replace(Options("base", language="en"), **options), tools)

    return make


async def test_segments_in_the_time_of_the_recording(transcribe):
    transcript = transcribe(Recording(35))
    segments = [segment async for segment in transcript.segments()]
    assert [round(segment.start) for segment in segments] == [0, 10, 20, 30]
    assert [round(segment.end) for segment in segments] == [4, 14, 24, 34]
    assert all(segment.window_start <= segment.start for segment in segments)
    assert transcript.speech_seconds == pytest.approx(16, abs=0.5)
    assert transcript.done_seconds == pytest.approx(35, abs=0.1)
    assert transcript.tokens == sum(len(segment.ids) for segment in segments)


@pytest.mark.parametrize("seconds", [0, 0.001, 0.03, 0.5])
async def test_next_to_nothing(transcribe, seconds):
    assert len([segment async for segment in transcribe(Recording(seconds)).segments()]) <= 1


async def test_silence_is_never_read(transcribe, engine):
    transcript = transcribe(Recording(100, speech=0), language=None)
    assert [segment async for segment in transcript.segments()] == []
    assert engine.batches == []
    assert (transcript.language, transcript.language_probability) == ("", 0.0)


async def test_windows_fit_the_model(transcribe, engine):
    assert [segment async for segment in transcribe(Recording(200, every=200, speech=200)).segments()]
    assert max(window.frames for window in engine.windows) <= MOST_SECONDS * 100
    assert sum(window.frames for window in engine.windows) == pytest.approx(200 * 100, rel=0.05)


async def test_several_windows_are_in_flight_and_no_more(transcribe, engine):
    engine.gate.clear()
    recording = Recording(3 * 3600)
    segments = transcribe(recording).segments()
    first = asyncio.ensure_future(anext(segments))
    await until(lambda: engine.batches, "a batch")
    await until(lambda: recording.read_to > 40 * RATE, "reading ahead")
    for _ in range(100):
        await asyncio.sleep(0)
    assert recording.read_to < 150 * RATE
    engine.gate.set()
    assert (await first).start < 1
    await segments.aclose()


async def test_three_hours_are_read_piece_by_piece(transcribe):
    recording = Recording(3 * 3600, every=60)
    assert len([segment async for segment in transcribe(recording).segments()]) == 180
    assert recording.largest <= 30 * RATE


async def test_order_does_not_depend_on_who_is_ready_first(transcribe, engine, vocabulary):
    async def read(windows):
        if len(engine.batches) < 2:
            engine.batches.append(windows)
            await until(lambda: len(engine.batches) > 1, "a second batch")
        engine.batches.append(windows)
        return [engine.answer(window) for window in windows]

    engine.read = read
    transcript = transcribe(Recording(300, every=25), most_windows=8)
    starts = [segment.start async for segment in transcript.segments()]
    assert starts == sorted(starts)


async def test_closing_drops_what_waits(transcribe, engine):
    engine.gate.clear()
    segments = transcribe(Recording(600)).segments()
    first = asyncio.ensure_future(anext(segments))
    await until(lambda: engine.batches, "a batch")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    running = len(engine.batches)
    engine.gate.set()
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(engine.batches) == running
    assert not [task for task in asyncio.all_tasks() if "_search" in repr(task) or "read" in repr(task.get_coro())]


async def test_a_fault_ends_the_transcript(transcribe, engine):
    def fail(_):
        raise ServiceError(Kind.UNAVAILABLE, "gone")

    engine.answer = fail
    with pytest.raises(ServiceError, match="gone"):
        [segment async for segment in transcribe(Recording(600)).segments()]


async def test_a_fault_in_the_recording_ends_the_transcript(transcribe):
    recording = Recording(600)
    whole = recording.read

    def read(channel, start, stop):
        if start > 60 * RATE:
            raise ServiceError(Kind.INTERNAL, "disk")
        return whole(channel, start, stop)

    recording.read = read
    with pytest.raises(ServiceError, match="disk"):
        [segment async for segment in transcribe(recording).segments()]


async def test_channels_come_in_order_of_time(transcribe):
    segments = [segment async for segment in transcribe(Recording(60, channels=2)).segments()]
    assert [segment.start for segment in segments] == sorted(segment.start for segment in segments)
    assert [segment.channel for segment in segments] == [0, 1] * 6


async def test_a_channel_may_be_silent(transcribe):
    recording = Recording(60, every=1000, channels=3)
    assert [segment.channel for segment in [s async for s in transcribe(recording).segments()]] == [0]


async def test_progress_grows_with_what_is_done(transcribe, engine):
    transcript = transcribe(Recording(120))
    seen = [transcript.done_seconds]
    async for _ in transcript.segments():
        seen.append(transcript.done_seconds)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert 0 < seen[3] < 120


async def test_the_language_is_found_in_the_first_speech(transcribe, engine, vocabulary):
    answer = engine.answer
    engine.answer = lambda window: languages(0.02, 0.95, 0.03) if window.detect_language else answer(window)
    transcript = transcribe(Recording(100, every=50, speech=20), language=None)
    segments = [segment async for segment in transcript.segments()]
    assert len(segments) == 2
    assert (transcript.language, transcript.language_probability) == ("de", pytest.approx(0.95))
    asked = [window for window in engine.windows if window.detect_language]
    assert [window.frames for window in asked] == [1000]  # the first ten seconds of speech were enough
    assert vocabulary.prompt("de") == list(engine.windows[-1].prompt)


async def test_more_speech_is_asked_where_the_language_is_not_sure(transcribe, engine):
    answer = engine.answer
    engine.answer = lambda window: languages(0.4, 0.35, 0.25) if window.detect_language else answer(window)
    transcript = transcribe(Recording(100), language=None)
    assert [segment async for segment in transcript.segments()]
    assert transcript.language == "en"
    assert len([window for window in engine.windows if window.detect_language]) > 3
