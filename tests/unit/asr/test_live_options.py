import pytest
from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.live.endpointing import EndpointingOptions
from services.asr.live.options import live_options_of
from services.asr.options import ServedModel
from services.asr.sound.audio import AudioLimits, Encoding
from services.common.errors import ServiceError

LIMITS = AudioLimits(1, 60.0, 8)
MODELS = [ServedModel("whisper-tiny.en", ("en",), False, "whisper_tiny_en", "MIT", "cpu-int8")]
PCM = pb.AudioFormat(encoding=pb.ENCODING_PCM_S16LE, sample_rate_hz=16_000)


def config(**fields) -> pb.StreamingConfig:
    inner = {name: fields.pop(name) for name in ("separate_channels", "language", "speech_threshold") if name in fields}
    audio = fields.pop("audio", PCM)
    return pb.StreamingConfig(config=pb.TranscriptionConfig(audio=audio, **inner), **fields)


def test_defaults():
    live = live_options_of(config(), MODELS, LIMITS)
    assert live.format.encoding is Encoding.PCM_S16LE and live.channels == 1
    assert live.endpointing == EndpointingOptions(96, 500, 0.5)
    assert not live.interim_results and not live.single_utterance


def test_separate_channels_count_each_and_the_threshold_is_that_of_speech():
    audio = pb.AudioFormat(encoding=pb.ENCODING_MULAW, sample_rate_hz=8000, channels=2)
    live = live_options_of(config(audio=audio, separate_channels=True, speech_threshold=0.25), MODELS, LIMITS)
    assert live.channels == 2 and live.endpointing.threshold == 0.25


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("config.config.audio.encoding", config(audio=pb.AudioFormat(sample_rate_hz=16_000))),
        ("config.config.audio.encoding", config(audio=pb.AudioFormat(encoding=99, sample_rate_hz=16_000))),
        ("config.config.audio.sample_rate_hz", config(audio=pb.AudioFormat(encoding=1))),
        ("config.config.audio.channels", config(audio=pb.AudioFormat(encoding=1, sample_rate_hz=8000, channels=9))),
        ("config.config.audio.channels", config(audio=pb.AudioFormat(encoding=5), separate_channels=True)),
        ("config.config.language", config(language="klingon")),
        ("config.endpointing.stop_silence_ms", config(endpointing=pb.Endpointing(stop_silence_ms=99))),
        ("config.endpointing.start_speech_ms", config(endpointing=pb.Endpointing(start_speech_ms=2001))),
        ("config.endpointing.threshold", config(endpointing=pb.Endpointing(threshold=1.0))),
        ("config.endpointing.threshold", config(endpointing=pb.Endpointing(threshold=float("nan")))),
    ],
)
def test_what_is_wrong_is_named(field: str, wrong: pb.StreamingConfig):
    with pytest.raises(ServiceError) as refused:
        live_options_of(wrong, MODELS, LIMITS)
    assert refused.value.field == field
