"""The servicer over an engine that answers from memory: validation, order of messages, progress, usage, admission."""

import asyncio
import io
import wave

import numpy as np
import pytest
from flotilla.asr.v1 import asr_pb2 as pb

from services.asr import files as files_module
from services.asr.files import Engine as FileEngine
from services.asr.files import Files
from services.asr.instruments import Instruments
from services.asr.servicer import AsrServicer
from services.asr.settings import AsrSettings
from services.asr.vad import Vad
from services.common.admission import Admission, Limits
from services.common.errors import Kind, ServiceError
from services.common.load import Load
from services.common.settings import CommonSettings
from tests.unit.asr.fakes import Engine, languages, reading, recognition
from tests.unit.asr.speech import JFK, RATE, samples_of, silence
from tests.waiting import until

TEXT = "And so, my fellow Americans"


class Context:
    def __init__(self, remaining=None, metadata=()):
        self.remaining, self.metadata = remaining, metadata

    def time_remaining(self):
        return self.remaining

    def invocation_metadata(self):
        return self.metadata


class Service:
    """What a test looks at."""

    def __init__(self, tmp_path, vocabulary, english, telemetry, concurrency=2, **settings):
        def answer(window):
            found = languages(0.9, 0.1, 0.0) if window.detect_language else None
            return found or reading(vocabulary, f"|0.2| {TEXT}.|4.0||4.2| Ask.|6.0|", words=window.word_times)

        self.engine = Engine(answer)
        base = recognition(self.engine, vocabulary, telemetry)
        tiny = recognition(self.engine, english, telemetry, "tiny.en")
        self.load = Load(1)
        self.admission = Admission(Limits(concurrency, 2, 60), self.load, telemetry)
        self.settings = AsrSettings(
            common=CommonSettings(state_dir=tmp_path), admission_concurrency=concurrency, admission_queue=2, **settings
        )
        self.telemetry = telemetry
        models = {"base": base, "tiny.en": tiny}
        parts = FileEngine(models, Vad(), self.admission, self.load, Instruments(telemetry))
        self.servicer = AsrServicer([model.model for model in models.values()], Files(self.settings, parts), None)

    async def transcribe(self, file, context=None, **config):
        request = pb.TranscribeRequest(config=pb.TranscriptionConfig(**config), audio=file)
        return await self.servicer.Transcribe(request, context or Context())

    async def send(self, *messages):
        async def requests():
            for message in messages:
                yield message

        return [response async for response in self.servicer.TranscribeFile(requests(), Context())]


@pytest.fixture
def service(tmp_path, vocabulary, english, telemetry):
    return Service(tmp_path, vocabulary, english, telemetry)


@pytest.fixture(scope="module")
def speech():
    return JFK.read_bytes()


def wav(samples, channels=1):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes((samples * 32_767).astype("<i2").tobytes())
    return file.getvalue()


def config(**fields):
    return pb.TranscribeFileRequest(config=pb.TranscriptionConfig(**fields))


def audio(data):
    return pb.TranscribeFileRequest(audio=data)


async def test_a_file_in_one_message(service, speech):
    answer = await service.transcribe(speech, word_timestamps=True)
    assert answer.text == f"{TEXT}. Ask."
    assert [segment.index for segment in answer.segments] == [0, 1]
    assert answer.segments[0].words[0].text == "And"
    assert answer.segments[0].token_ids
    summary = answer.summary
    assert (summary.model, summary.language) == ("base", "en")
    assert summary.language_probability == pytest.approx(0.9)
    assert summary.duration == pytest.approx(11, abs=0.01)
    assert summary.usage.audio_seconds == pytest.approx(11, abs=0.01)
    assert 5 < summary.usage.speech_seconds < 10
    assert summary.usage.output_tokens == sum(len(segment.token_ids) for segment in answer.segments)


async def test_a_file_in_pieces(service, speech):
    pieces = [audio(speech[first : first + 10_000]) for first in range(0, len(speech), 10_000)]
    *rest, last = await service.send(config(language="en"), *pieces)
    assert "".join(response.segment.text for response in rest) == f" {TEXT}. Ask."
    assert last.summary.language_probability == 1
    assert last.progress.done_seconds == last.progress.total_seconds == pytest.approx(11, abs=0.01)


async def test_samples_without_a_header(service):
    raw = (samples_of(JFK) * 32_767).astype("<i2").tobytes()
    answer = await service.transcribe(raw, audio=pb.AudioFormat(encoding=pb.ENCODING_PCM_S16LE, sample_rate_hz=RATE))
    assert answer.summary.duration == pytest.approx(11, abs=0.01)


async def test_channels_apart(service):
    quiet = np.stack([silence(11), samples_of(JFK)], axis=1)
    answer = await service.transcribe(wav(quiet, 2), language="en", separate_channels=True)
    assert {segment.channel for segment in answer.segments} == {1}
    assert answer.summary.usage.audio_seconds == pytest.approx(22, abs=0.1)
    mixed = await service.transcribe(wav(quiet, 2), language="en")
    assert {segment.channel for segment in mixed.segments} == {0}
    assert mixed.summary.usage.audio_seconds == pytest.approx(11, abs=0.1)


async def test_silence_has_no_text(service):
    answer = await service.transcribe(wav(silence(5)))
    assert (answer.text, len(answer.segments), answer.summary.language) == ("", 0, "")
    assert service.engine.batches == []


async def test_the_models(service):
    models = (await service.servicer.ListModels(pb.ListModelsRequest(), Context())).models
    assert [model.id for model in models] == ["base", "tiny.en"]
    assert list(models[0].languages) == ["en", "de", "ja"]
    assert [model.translates for model in models] == [True, False]


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "config"),
        ([audio(b"RIFF")], "config"),
        ([pb.TranscribeFileRequest()], "config"),
        ([config(), config()], "config"),
        ([config(), audio(b"RIFF"), config()], "config"),
        ([config(), pb.TranscribeFileRequest()], "audio"),
        ([config()], "audio"),
        ([config(), audio(b"")], "audio"),
        ([config(), audio(b"no audio at all")], "audio"),
        ([config(max_alternatives=6)], "config.max_alternatives"),
        ([config(audio=pb.AudioFormat(encoding=9, sample_rate_hz=RATE))], "config.audio.encoding"),
        ([config(audio=pb.AudioFormat(encoding=1))], "config.audio.sample_rate_hz"),
        ([config(audio=pb.AudioFormat(encoding=1, sample_rate_hz=10**6))], "config.audio.sample_rate_hz"),
        ([config(audio=pb.AudioFormat(encoding=1, sample_rate_hz=RATE, channels=9))], "config.audio.channels"),
    ],
)
async def test_what_is_wrong_is_named(service, messages, field):
    with pytest.raises(ServiceError) as caught:
        await service.send(*messages)
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, field)
    assert field.rpartition(".")[2] in caught.value.message
    assert service.admission.running == 0


async def test_an_empty_request(service):
    with pytest.raises(ServiceError) as caught:
        await service.servicer.Transcribe(pb.TranscribeRequest(), Context())
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, "audio")


async def test_an_unknown_model(service, speech):
    with pytest.raises(ServiceError, match=r"loaded: base, tiny\.en") as caught:
        await service.transcribe(speech, model="large")
    assert (caught.value.kind, caught.value.field) == (Kind.NOT_FOUND, "config.model")


async def test_too_many_bytes(tmp_path, vocabulary, english, telemetry):
    service = Service(tmp_path, vocabulary, english, telemetry, max_audio_bytes=1000)
    with pytest.raises(ServiceError) as caught:
        await service.send(config(), audio(b"x" * 600), audio(b"x" * 600))
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, "audio")


async def test_who_stops_sending_is_not_waited_for(tmp_path, vocabulary, english, telemetry):
    service = Service(tmp_path, vocabulary, english, telemetry, upload_idle_seconds=0.01)

    async def requests():
        yield config()
        await asyncio.Event().wait()

    with pytest.raises(ServiceError) as caught:
        [response async for response in service.servicer.TranscribeFile(requests(), Context())]
    assert caught.value.kind is Kind.REQUEST_TIMEOUT


async def test_progress_while_it_waits_and_while_it_runs(service, speech, monkeypatch):
    monkeypatch.setattr(files_module, "PULSE_SECONDS", 0.01)
    service.engine.gate.clear()
    running = [asyncio.ensure_future(service.transcribe(speech, language="en")) for _ in range(2)]
    await until(lambda: service.admission.running == 2, "two files at work")

    async def requests():
        yield config(language="en")
        yield audio(speech)

    seen = []
    async for response in service.servicer.TranscribeFile(requests(), Context()):
        seen.append(response)
        if len(seen) == 3:
            assert service.admission.waiting == 1
            assert all(one.WhichOneof("content") is None for one in seen)
            service.engine.gate.set()
    assert seen[-1].HasField("summary")
    await asyncio.gather(*running)


async def test_a_file_that_waits_holds_its_bytes_and_nothing_else(service, speech, tmp_path):
    service.engine.gate.clear()
    calls = [asyncio.ensure_future(service.transcribe(speech, language="en")) for _ in range(4)]
    await until(lambda: service.admission.waiting == 2, "two that wait")
    decoded = len(service.engine.windows)
    assert decoded <= 2
    service.engine.gate.set()
    assert len({answer.text for answer in await asyncio.gather(*calls)}) == 1


async def test_past_the_queue_files_are_refused_before_they_are_sent(service, speech):
    service.engine.gate.clear()
    calls = [asyncio.ensure_future(service.transcribe(speech, language="en")) for _ in range(4)]
    await until(lambda: service.admission.waiting == 2, "a full queue")
    with pytest.raises(ServiceError) as caught:
        await service.send(config(), audio(speech))
    assert caught.value.kind is Kind.OVERLOADED
    assert caught.value.retry_after
    service.engine.gate.set()
    await asyncio.gather(*calls)
    assert await service.transcribe(speech)


async def test_a_deadline_that_has_passed(service, speech):
    with pytest.raises(ServiceError) as caught:
        await service.transcribe(speech, Context(remaining=0))
    assert caught.value.kind is Kind.DEADLINE_EXCEEDED
    assert service.engine.batches == []


async def test_a_caller_who_leaves_frees_everything(service, speech):
    service.engine.gate.clear()
    call = asyncio.ensure_future(service.transcribe(speech, language="en"))
    await until(lambda: service.engine.batches, "a batch")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert service.admission.running == service.admission.waiting == 0
    service.engine.gate.set()
    assert (await service.transcribe(speech)).text


async def test_what_is_measured(service, speech):
    await service.transcribe(speech)
    value = service.telemetry.value
    assert value("flotilla_asr_audio_seconds_total", model="base") == pytest.approx(11, abs=0.1)
    assert 5 < value("flotilla_asr_speech_seconds_total", model="base") < 10
    assert value("flotilla_asr_segments_total", model="base") == 2
    assert value("flotilla_asr_languages_total", model="base", language="en") == 1
    assert value("flotilla_asr_real_time_factor_count", model="base") == 1


async def test_work_is_offered_once_it_is_known(service, speech):
    await service.transcribe(speech)
    service.load.worked(11 * 100, 15.0)
    assert service.load.saturation() == pytest.approx(1, rel=0.09)  # of the 15 s, the last second is not over
