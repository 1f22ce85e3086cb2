"""NVIDIA's own client for Riva against the ASR service: the flow of its scripts, offline and streaming."""

import io
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import riva.client
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from riva.client.proto import riva_asr_pb2, riva_audio_pb2

from services.common.errors import from_rpc_error
from tests.integration.asr.process import asr_process
from tests.integration.service_process import ServiceProcess
from tests.unit.asr.speech import JFK, RATE, samples_of

TINY, BASE = "whisper-tiny.en", "whisper-base"
SERVICE = "nvidia.riva.asr.RivaSpeechRecognition"
PHRASE = "what you can do for your country"


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    async with asr_process(tmp_path_factory.mktemp("asr")) as running:
        yield running


@pytest.fixture
def client(service: ServiceProcess) -> riva.client.ASRService:
    return riva.client.ASRService(riva.client.Auth(uri=service.address))


@pytest.fixture(scope="module")
def wav_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "jfk.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(raw())
    return path


def raw() -> bytes:
    return bytes((samples_of(JFK) * 32_767).astype("<i2").tobytes())


def recognition(**fields: Any) -> riva.client.RecognitionConfig:
    defaults = {"language_code": "en-US", "model": TINY, "max_alternatives": 1, "enable_automatic_punctuation": True}
    return riva.client.RecognitionConfig(**{**defaults, **fields})


def test_offline_with_word_offsets_as_the_script_for_files_does(client: riva.client.ASRService, wav_file: Path, capsys):
    config = recognition(enable_word_time_offsets=True, verbatim_transcripts=True)
    riva.client.add_audio_file_specs_to_config(config, wav_file)
    riva.client.add_word_boosting_to_config(config, ["country", "Americans"], 20.0)
    riva.client.add_speaker_diarization_to_config(config, diarization_enable=False, diarization_max_speakers=3)
    response = client.offline_recognize(wav_file.read_bytes(), config)
    riva.client.print_offline(response)
    assert PHRASE in capsys.readouterr().out.lower()
    words = [word for result in response.results for word in result.alternatives[0].words]
    assert words[0].start_time < 1500 and 9000 < words[-1].end_time <= 11_100
    assert all(result.channel_tag == 1 for result in response.results)
    assert response.results[0].audio_processed == pytest.approx(11.0, abs=0.1)


@pytest.mark.parametrize(
    "audio",
    [
        lambda: (riva_audio_pb2.FLAC, JFK.read_bytes()),
        lambda: (riva_audio_pb2.ENCODING_UNSPECIFIED, JFK.read_bytes()),
        lambda: (riva_audio_pb2.LINEAR_PCM, raw()),
        lambda: (riva_audio_pb2.MULAW, mulaw(samples_of(JFK))),
    ],
    ids=["flac", "named by its header", "samples", "mu-law"],
)
def test_offline_encodings(client: riva.client.ASRService, audio: Callable[[], tuple[int, bytes]]):
    encoding, data = audio()
    response = client.offline_recognize(data, recognition(encoding=encoding, sample_rate_hertz=RATE))
    text = "".join(result.alternatives[0].transcript for result in response.results)
    assert PHRASE in text.lower() and text.endswith(" ")


def mulaw(samples: np.ndarray) -> bytes:
    """G.711 at its full range, by the continuous formula."""
    squeezed = np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log(256)
    codes = np.minimum(np.floor(np.abs(squeezed) * 128), 127).astype(np.uint8)
    return bytes((~(codes | np.where(squeezed < 0, 0x80, 0).astype(np.uint8)) & 0xFF).astype(np.uint8).tobytes())


def test_streaming_with_interims_as_the_script_does(client: riva.client.ASRService, wav_file: Path):
    config = riva.client.StreamingRecognitionConfig(
        config=recognition(enable_word_time_offsets=True), interim_results=True
    )
    riva.client.add_word_boosting_to_config(config, None, 4.0)
    riva.client.add_endpoint_parameters_to_config(config, -1, -1.0, 400, -1, -1.0, -1.0)
    riva.client.add_custom_configuration_to_config(config, "")
    printed = io.StringIO()
    with riva.client.AudioChunkFileIterator(wav_file, 1600, riva.client.sleep_audio_length) as chunks:
        riva.client.print_streaming(
            client.streaming_response_generator(chunks, config),
            output_file=printed,
            additional_info="time",
            word_time_offsets=True,
        )
    lines = printed.getvalue().splitlines()
    finals = [line for line in lines if "Transcript 0:" in line]
    assert any(line.startswith(">>>Time") for line in lines)
    assert PHRASE in " ".join(finals).lower()
    assert any(line.startswith("country.") for line in lines)


def test_streaming_results_carry_what_riva_has(client: riva.client.ASRService, wav_file: Path):
    config = riva.client.StreamingRecognitionConfig(config=recognition(), interim_results=True)
    with riva.client.AudioChunkFileIterator(wav_file, 1600, riva.client.sleep_audio_length) as chunks:
        results = [
            result for response in client.streaming_response_generator(chunks, config) for result in response.results
        ]
    finals = [result for result in results if result.is_final]
    assert finals and all(result.stability == 1.0 for result in finals)
    assert any(not result.is_final and 0 < result.stability <= 1 for result in results)
    processed = [result.audio_processed for result in results]
    assert processed == sorted(processed) and processed[-1] == pytest.approx(11.0, abs=0.2)
    assert all(result.channel_tag == 1 for result in results)
    assert all(not result.alternatives[0].words for result in results)


def test_streaming_of_a_flac_file_and_request_ids(client: riva.client.ASRService):
    def requests():
        config = riva.client.StreamingRecognitionConfig(config=recognition())
        first = riva_asr_pb2.StreamingRecognizeRequest(streaming_config=config)
        first.id.value = "call-7"
        yield first
        data = JFK.read_bytes()
        for start in range(0, len(data), 1600):
            yield riva_asr_pb2.StreamingRecognizeRequest(audio_content=data[start : start + 1600])

    responses = list(client.stub.StreamingRecognize(requests()))
    text = "".join(response.results[0].alternatives[0].transcript for response in responses)
    assert PHRASE in text.lower()
    assert {response.id.value for response in responses} == {"call-7"}


def test_the_configuration_names_every_model(client: riva.client.ASRService):
    ask = client.stub.GetRivaSpeechRecognitionConfig
    models = ask(riva_asr_pb2.RivaSpeechRecognitionConfigRequest()).model_config
    assert [model.model_name for model in models] == [BASE, TINY]
    assert models[1].parameters["language_code"] == "en" and models[1].parameters["streaming"] == "true"
    one = ask(riva_asr_pb2.RivaSpeechRecognitionConfigRequest(model_name=TINY)).model_config
    assert [model.model_name for model in one] == [TINY]


@pytest.mark.parametrize(
    ("code", "field", "wrong"),
    [
        ("INVALID_ARGUMENT", "config.profanity_filter", {"profanity_filter": True}),
        ("INVALID_ARGUMENT", "config.language_code", {"language_code": "xx-YY"}),
        ("INVALID_ARGUMENT", "config.sample_rate_hertz", {"encoding": 1, "sample_rate_hertz": 1}),
        ("NOT_FOUND", "config.model", {"model": "conformer-en-US"}),
    ],
)
def test_faults_are_named_in_rivas_terms(client: riva.client.ASRService, code: str, field: str, wrong: dict):
    config = recognition(**{"sample_rate_hertz": RATE, **wrong})
    streaming = riva.client.StreamingRecognitionConfig(config=config)
    for call in (
        lambda: client.offline_recognize(raw(), config),
        lambda: list(client.streaming_response_generator([raw()], streaming)),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code().name == code
        assert from_rpc_error(refused.value).field == field


def test_a_stream_must_begin_with_its_configuration(client: riva.client.ASRService):
    with pytest.raises(grpc.RpcError) as refused:
        list(client.stub.StreamingRecognize(iter([riva_asr_pb2.StreamingRecognizeRequest(audio_content=b"\0\0")])))
    assert from_rpc_error(refused.value).field == "streaming_config"


async def test_health_and_reflection_know_the_service(service: ServiceProcess):
    async with service.channel() as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert health.status == health_pb2.HealthCheckResponse.SERVING

        async def ask():
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(ask())
        async for answer in call:
            assert SERVICE in {found.name for found in answer.list_services_response.service}
