import numpy as np
import pytest

from services.asr.sound.audio import Audio, AudioFormat, AudioLimits, Encoding, FormatFields, audio_format
from services.asr.sound.scratch import ScratchFile
from services.common.errors import Kind, ServiceError

LIMITS = AudioLimits(bytes=1000, seconds=10.0, channels=4)
RIVA = FormatFields("config.encoding", "config.sample_rate_hertz", "config.audio_channel_count")


@pytest.fixture
def audio(tmp_path):
    file = ScratchFile(tmp_path)
    file.append(np.arange(32_000, dtype=np.int16).tobytes())
    with file:
        yield Audio(file, 2)


def test_length(audio):
    assert (audio.channels, audio.samples, audio.seconds) == (2, 16_000, 1.0)


@pytest.mark.parametrize("channel", [0, 1])
def test_samples_are_read_by_position(audio, channel):
    found = audio.read(channel, 100, 103)
    assert found.dtype == np.float32
    assert (found * 32_768).tolist() == [200 + channel, 202 + channel, 204 + channel]


@pytest.mark.parametrize(("start", "stop", "length"), [(15_999, 16_010, 1), (16_000, 16_001, 0), (5, 5, 0), (5, 4, 0)])
def test_the_end_of_the_audio_ends_a_read(audio, start, stop, length):
    assert audio.read(1, start, stop).shape == (length,)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((Encoding.PCM_S16LE, 8_000, 2), AudioFormat(Encoding.PCM_S16LE, 8_000, 2)),
        ((Encoding.MULAW, 8_000, 0), AudioFormat(Encoding.MULAW, 8_000, 1)),
        ((Encoding.FLAC, 0, 0), AudioFormat(Encoding.FLAC, 0, 0)),
        ((Encoding.OGG_OPUS, 48_000, 2), AudioFormat(Encoding.OGG_OPUS, 48_000, 2)),
    ],
)
def test_formats(named, expected):
    assert audio_format(*named, LIMITS, FormatFields()) == expected


@pytest.mark.parametrize(
    ("named", "field", "words"),
    [
        ((None, 8_000, 1), "config.encoding", "PCM_S16LE"),
        ((Encoding.PCM_S16LE, 0, 1), "config.sample_rate_hertz", "4000 to 192000 Hz"),
        ((Encoding.PCM_U8, 3_999, 1), "config.sample_rate_hertz", "3999 Hz"),
        ((Encoding.FLAC, 1_000_000, 1), "config.sample_rate_hertz", "4000 to 192000 Hz"),
        ((Encoding.ALAW, 8_000, 5), "config.audio_channel_count", "1 to 4"),
        ((Encoding.ALAW, 8_000, -1), "config.audio_channel_count", "1 to 4"),
        ((Encoding.FLAC, 0, 5), "config.audio_channel_count", "1 to 4"),
    ],
)
def test_a_format_that_cannot_be_is_refused_in_the_callers_terms(named, field, words):
    with pytest.raises(ServiceError) as caught:
        audio_format(*named, LIMITS, RIVA)
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, field)
    assert words in caught.value.message
