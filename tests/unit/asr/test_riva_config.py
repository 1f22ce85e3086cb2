import pytest
from flotilla.asr.v1 import asr_pb2 as pb
from riva.client.proto import riva_asr_pb2 as riva
from riva.client.proto import riva_audio_pb2 as riva_audio

from services.asr.riva.config import file_request, in_riva_terms, live_request
from services.common.errors import ServiceError, invalid


def recognition(**fields) -> riva.RecognitionConfig:
    return riva.RecognitionConfig(**{"encoding": riva_audio.LINEAR_PCM, "sample_rate_hertz": 8000, **fields})


def live(head: bytes = b"\0\0\0\0", **fields) -> pb.StreamingConfig:
    return live_request(riva.StreamingRecognitionConfig(config=recognition(**fields)), head).config


def test_a_configuration_keeps_its_meaning():
    config = recognition(
        language_code="de-DE",
        model="whisper-base",
        max_alternatives=2,
        enable_word_time_offsets=True,
        enable_automatic_punctuation=True,
        verbatim_transcripts=True,
        audio_channel_count=2,
        enable_separate_recognition_per_channel=True,
        speech_contexts=[riva.SpeechContext(phrases=["Flotilla", "Triton"], boost=20.0)],
    )
    found = file_request(riva.RecognizeRequest(config=config, audio=b"\0" * 8)).config
    assert found == pb.TranscriptionConfig(
        model="whisper-base",
        language="de",
        max_alternatives=2,
        word_timestamps=True,
        separate_channels=True,
        hot_words=["Flotilla", "Triton"],
        audio=pb.AudioFormat(encoding=pb.ENCODING_PCM_S16LE, sample_rate_hz=8000, channels=2),
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (riva_audio.LINEAR_PCM, pb.ENCODING_PCM_S16LE),
        (riva_audio.FLAC, pb.ENCODING_FLAC),
        (riva_audio.MULAW, pb.ENCODING_MULAW),
        (riva_audio.ALAW, pb.ENCODING_ALAW),
        (riva_audio.OGGOPUS, pb.ENCODING_OGG_OPUS),
    ],
)
def test_encodings(theirs: int, ours: int):
    assert live(encoding=theirs).config.audio.encoding == ours


@pytest.mark.parametrize(
    ("head", "ours"), [(b"fLaC", pb.ENCODING_FLAC), (b"OggS", pb.ENCODING_OGG_OPUS), (b"RIFF", pb.ENCODING_PCM_S16LE)]
)
def test_audio_that_says_what_it_is_needs_no_encoding(head: bytes, ours: int):
    audio = live(head, encoding=riva_audio.ENCODING_UNSPECIFIED, sample_rate_hertz=0).config.audio
    assert audio.encoding == ours
    assert (audio.sample_rate_hz > 0) == (head == b"RIFF")


@pytest.mark.parametrize("audio", [b"RIFF\0\0\0\0WAVE", b"RF64", b"fLaC", b"OggS"])
def test_a_file_with_a_header_is_a_file(audio: bytes):
    config = recognition(encoding=riva_audio.ENCODING_UNSPECIFIED)
    assert not file_request(riva.RecognizeRequest(config=config, audio=audio)).config.HasField("audio")


def test_endpointing():
    theirs = riva.EndpointingConfig(start_history=200, start_threshold=0.5, stop_history=800, stop_history_eou=300)
    ours = live(endpointing_config=theirs).endpointing
    assert (ours.start_speech_ms, ours.stop_silence_ms, ours.threshold) == (200, 300, 0.5)
    assert not live().endpointing.HasField("stop_silence_ms")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("config.profanity_filter", {"profanity_filter": True}),
        (
            "config.diarization_config.enable_speaker_diarization",
            {"diarization_config": riva.SpeakerDiarizationConfig(enable_speaker_diarization=True)},
        ),
        ("config.speech_contexts[0].boost", {"speech_contexts": [riva.SpeechContext(phrases=["a"], boost=-1)]}),
        ("config.custom_configuration[x]", {"custom_configuration": {"x": "y"}}),
        ("config.language_code", {"language_code": "xx-XX"}),
        ("config.max_alternatives", {"max_alternatives": 6}),
        ("config.encoding", {"encoding": 77}),
        ("config.sample_rate_hertz", {"sample_rate_hertz": -1}),
        ("config.endpointing_config.stop_history", {"endpointing_config": riva.EndpointingConfig(stop_history=-1)}),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(field: str, wrong: dict):
    with pytest.raises(ServiceError) as refused:
        live(**wrong)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("config.config.audio.sample_rate_hz", "config.sample_rate_hertz"),
        ("config.config.hot_words[3]", "config.speech_contexts[3]"),
        ("config.config.model", "config.model"),
        ("config.audio.channels", "config.audio_channel_count"),
        ("config.endpointing.stop_silence_ms", "config.endpointing_config.stop_history"),
        ("config.language_code", "config.language_code"),
        ("audio", "audio"),
    ],
)
def test_errors_speak_of_rivas_fields(ours: str, theirs: str):
    error = in_riva_terms(invalid(ours, f"{ours} is wrong"))
    assert (error.field, error.message) == (theirs, f"{theirs} is wrong")
