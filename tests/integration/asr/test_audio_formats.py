"""Every format against what was encoded, and against faster-whisper's own decoder."""

import io

import numpy as np
import pytest
from faster_whisper.audio import decode_audio

from services.asr.sound.audio import Encoding
from tests.unit.asr.audio_calls import level, live, loudest_hertz, raw, samples
from tests.unit.asr.audio_files import KINDS, encoded, noise, tone

MILLISECOND = 16
LOSSLESS = ("wav u8", "wav s16", "wav s24", "wav s32", "wav f32", "wav f64", "wav alaw", "wav mulaw", "flac")
PADDED = {"m4a aac": 0.03, "mp4 aac": 0.03, "adts aac": 0.06}
"""Seconds of padding these containers do not tell."""


def rate_of(kind):
    return 48_000 if "opus" in kind else 44_100


def made(kind, sound=tone, **options):
    one = sound(2.0, rate_of(kind))
    return encoded(kind, np.concatenate([one, one]) if "vorbis" in kind else one, rate_of(kind), **options)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tone_keeps_frequency_level_and_length(kind, tmp_path):
    (found,) = await samples(made(kind), tmp_path)
    assert loudest_hertz(found) == pytest.approx(440, abs=1)
    assert level(found) == pytest.approx(0.25, rel=0.05)
    assert -5 * MILLISECOND <= len(found) - 32_000 <= (PADDED.get(kind, 0) + 0.005) * 16_000


@pytest.mark.parametrize("kind", KINDS)
async def test_faster_whisper_decodes_to_the_same(kind, tmp_path):
    data = made(kind, noise)
    (found,) = await samples(data, tmp_path)
    expected = decode_audio(io.BytesIO(data))
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() <= 1 / 32_768


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("encoding", ["PCM_S16LE", "PCM_U8", "MULAW", "ALAW"])
async def test_raw_samples_of_every_rate(rate, encoding, tmp_path):
    sine = tone(1.0, rate)
    codec = {"PCM_S16LE": "wav s16", "PCM_U8": "wav u8", "MULAW": "wav mulaw", "ALAW": "wav alaw"}[encoding]
    file = encoded(codec, sine, rate)
    at = file.index(b"data") + 8
    data = file[at : at + int.from_bytes(file[at - 4 : at], "little")]
    (found,) = await samples(data, tmp_path, raw(Encoding[encoding], rate))
    assert abs(len(found) - 16_000) <= 5 * MILLISECOND
    assert loudest_hertz(found) == pytest.approx(440, abs=1.5)
    assert level(found) == pytest.approx(0.25, rel=0.03)
    (from_file,) = await samples(file, tmp_path)
    assert len(found) == len(from_file)
    assert np.abs(found - from_file).max() <= 2 / 32_768


async def test_flac_gives_the_very_samples_of_wav(tmp_path):
    sound = noise(3.0, 44_100)
    flac = await samples(encoded("flac", sound, 44_100), tmp_path)
    assert np.array_equal(flac, await samples(encoded("wav s16", sound, 44_100), tmp_path))


async def test_samples_of_16_khz_stay_as_they_are(tmp_path):
    sound = noise(1.0)
    assert np.array_equal(await samples(sound.tobytes(), tmp_path, raw()), sound / np.float32(32_768))


@pytest.mark.parametrize("kind", ["wav s16", "flac", "ogg opus", "webm opus", "m4a aac"])
@pytest.mark.parametrize("channels", [2, 3, 6, 8])
async def test_channels_are_kept_apart_or_mixed(kind, channels, tmp_path):
    layout = {2: "stereo", 3: "3.0", 6: "5.1", 8: "7.1"}[channels]
    if kind == "m4a aac" and channels == 8:
        layout = "7.1(wide)"
    hertz = [300 * (index + 1) for index in range(channels)]
    rate = rate_of(kind)
    data = encoded(kind, np.concatenate([tone(1.0, rate, each) for each in hertz]), rate, layout=layout)
    apart = await samples(data, tmp_path, separate=True)
    assert len(apart) == channels
    if kind in ("wav s16", "flac"):
        assert [round(loudest_hertz(channel) / 100) * 100 for channel in apart] == hertz
    (mixed,) = await samples(data, tmp_path)
    assert 0 < np.abs(mixed).max() < 0.99


async def test_raw_channels_without_places_are_averaged(tmp_path):
    four = np.concatenate([tone(1.0, hertz=hertz) for hertz in (300, 600, 900, 1200)])
    (mixed,) = await samples(four.T.tobytes(), tmp_path, raw(channels=4))
    assert np.abs(mixed - four.mean(axis=0) / 32_768).max() <= 1 / 32_768


@pytest.mark.parametrize("kind", ["mp4 aac", "webm opus"])
async def test_the_pictures_of_a_video_make_no_difference(kind, tmp_path):
    sound = tone(1.0, rate_of(kind))
    with_pictures = await samples(encoded(kind, sound, rate_of(kind), video=True), tmp_path)
    assert np.array_equal(with_pictures, await samples(encoded(kind, sound, rate_of(kind)), tmp_path))


@pytest.mark.parametrize(
    ("kind", "encoding", "rate"),
    [
        ("flac", Encoding.FLAC, 8_000),
        ("flac", Encoding.FLAC, 44_100),
        ("ogg opus", Encoding.OGG_OPUS, 16_000),
        ("ogg opus", Encoding.OGG_OPUS, 48_000),
        ("wav s16", Encoding.PCM_S16LE, 44_100),
        ("wav alaw", Encoding.PCM_S16LE, 8_000),
    ],
)
@pytest.mark.parametrize("sizes", [[1], [7, 1000, 3], [4096], [10**8]])
async def test_a_stream_gives_the_very_samples_of_its_file(kind, encoding, rate, sizes, tmp_path):
    data = encoded(kind, noise(1.5, rate, level=0.05), rate)
    assert np.array_equal(live(data, raw(encoding, rate), sizes), await samples(data, tmp_path))
