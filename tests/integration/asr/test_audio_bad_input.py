"""Files that cannot be accepted: each is refused with the field and the limit, and leaves nothing behind."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from services.asr.sound.audio import AudioLimits, Encoding
from tests.unit.asr.audio_calls import FIELD, LIMITS, decoded, raw, refusal, samples
from tests.unit.asr.audio_files import encoded, noise, tone, video_only, wav

NOT_AUDIO = "not a WAV, FLAC"
TEN_SECONDS = tone(10.0).tobytes()
TEN_HOURS = 10 * 3600 * 32_000


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, capfd):
    yield
    assert list(tmp_path.rglob("*")) == []
    assert not [name for name in open_files() if str(tmp_path) in name]
    assert capfd.readouterr() == ("", "")  # FFmpeg keeps quiet


def open_files():
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            yield str(descriptor.readlink())
        except FileNotFoundError:
            continue


async def test_an_empty_file(tmp_path):
    assert await refusal(b"", tmp_path) == f"{FIELD} is empty"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"This is what was said.\n" * 1000, id="text"),
        pytest.param(b"ID3\4\0\0\0\0\0\0" + b"This is what was said.\n" * 1000, id="text with a tag"),
        pytest.param(np.random.default_rng(1).bytes(100_000), id="noise"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(b"RIFF\0\0\0\0WAVE", id="wav of 12 bytes"),
        pytest.param(b"fLaC", id="flac of 4 bytes"),
        pytest.param(b"\0\0\0\x18ftypM4A ", id="m4a of 12 bytes"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(1000), id="picture"),
    ],
)
async def test_what_is_no_audio(data, tmp_path):
    await refusal(data, tmp_path)


async def test_text_is_told_what_can_be_read(tmp_path):
    assert NOT_AUDIO in await refusal(b"This is what was said.\n" * 1000, tmp_path)


@pytest.mark.parametrize("container", ["mp4", "webm"])
async def test_video_without_sound(container, tmp_path):
    assert "no audio track" in await refusal(video_only(container), tmp_path)


@pytest.mark.parametrize("rate", [0, 3_999, 192_001, 1_000_000, 2**32 - 1])
async def test_impossible_rates(rate, tmp_path):
    message = await refusal(wav(TEN_SECONDS, rate=rate), tmp_path)
    assert "4000 to 192000 Hz" in message or NOT_AUDIO in message


@pytest.mark.parametrize("channels", [0, 9, 255, 30_000])
async def test_impossible_channels(channels, tmp_path):
    message = await refusal(wav(TEN_SECONDS, channels=channels), tmp_path)
    assert "1 to 8" in message or channels in (0, 30_000)


async def test_fewer_channels_may_be_allowed(tmp_path):
    limits = AudioLimits(LIMITS.bytes, LIMITS.seconds, channels=1)
    assert "1 to 1" in await refusal(wav(TEN_SECONDS, channels=2), tmp_path, limits=limits)


@pytest.mark.parametrize("claimed", [TEN_HOURS, 0, 0xFFFFFFFF])
async def test_length_is_measured_not_believed(claimed, tmp_path):
    (found,) = await samples(wav(TEN_SECONDS, data_bytes=claimed), tmp_path)
    assert len(found) == 160_000


async def test_a_flac_that_claims_ten_hours_is_cut_off(tmp_path):
    data = bytearray(encoded("flac", tone(10.0)))
    data[21:26] = ((data[21] & 0xF0) << 32 | 36_000 * 16_000).to_bytes(5, "big")
    assert "truncated or broken after 10.00 seconds" in await refusal(bytes(data), tmp_path)


@pytest.mark.parametrize("kind", ["wav s16", "flac", "mp3", "ogg opus", "m4a aac", "webm opus"])
async def test_too_long(kind, tmp_path):
    limits = AudioLimits(LIMITS.bytes, 5.0, 8)
    assert "5 seconds, which is the limit" in await refusal(
        encoded(kind, tone(6.0, 48_000), 48_000), tmp_path, limits=limits
    )
    (found,) = await samples(encoded(kind, tone(4.9, 48_000), 48_000), tmp_path, limits=limits)
    assert len(found) > 0


async def test_raw_samples_too_long(tmp_path):
    limits = AudioLimits(LIMITS.bytes, 5.0, 8)
    assert "5 seconds" in await refusal(TEN_SECONDS, tmp_path, raw(), limits=limits)


async def test_a_small_file_of_many_hours_stops_at_the_limit(tmp_path):
    silent = encoded("flac", np.zeros((1, 16_000 * 600), np.int16))
    assert len(silent) < 120_000
    assert "60 seconds, which is the limit" in await refusal(silent, tmp_path)


async def test_too_many_bytes(tmp_path):
    limits = AudioLimits(100_000, LIMITS.seconds, 8)
    assert "100000 bytes" in await refusal(TEN_SECONDS, tmp_path, raw(), limits=limits)
    assert "100000 bytes" in await refusal(wav(TEN_SECONDS), tmp_path, limits=limits)


@pytest.mark.parametrize("kind", ["wav s16", "wav f32", "mp3", "adts aac", "ogg opus", "webm opus"])
async def test_a_stream_that_is_cut_off_ends_there(kind, tmp_path):
    data = encoded(kind, noise(4.0, 48_000), 48_000)
    (found,) = await samples(data[: len(data) * 7 // 10], tmp_path)
    assert 1.9 * 16_000 < len(found) < 3 * 16_000


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
async def test_a_truncated_flac(share, tmp_path):
    data = encoded("flac", noise(4.0))
    message = await refusal(data[: round(len(data) * share)], tmp_path)
    assert float(message.split()[-2]) == pytest.approx(4 * share, abs=0.5)


async def test_a_truncated_m4a(tmp_path):
    data = encoded("m4a aac", noise(4.0))
    assert NOT_AUDIO in await refusal(data[: len(data) * 7 // 10], tmp_path)  # its index was at the end
    data = encoded("m4a aac", noise(4.0), options={"movflags": "faststart"})
    message = await refusal(data[: len(data) * 7 // 10], tmp_path)
    assert float(message.split()[-2]) == pytest.approx(2.8, abs=0.3)


@pytest.mark.parametrize("kind", ["flac", "ogg opus"])
async def test_a_file_that_breaks_in_the_middle(kind, tmp_path):
    data = bytearray(encoded(kind, noise(6.0, 48_000), 48_000))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    message = await refusal(bytes(data), tmp_path)
    assert 1.0 < float(message.split()[-2]) < 4.0


async def test_a_damaged_mp3_frame_is_passed_over(tmp_path):
    data = bytearray(encoded("mp3", noise(4.0, 44_100), 44_100))
    middle = len(data) // 2
    data[middle : middle + 30] = bytes(30)
    (found,) = await samples(bytes(data), tmp_path)
    assert len(found) == pytest.approx(64_000, abs=1_500)


async def test_half_a_sample_at_the_end(tmp_path):
    assert "1 of the 2 bytes" in await refusal(TEN_SECONDS[:-1], tmp_path, raw())
    assert "2 of the 4 bytes" in await refusal(TEN_SECONDS[:-2], tmp_path, raw(channels=2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize(("dtype", "bits"), [("<f4", 32), ("<f8", 64)])
async def test_infinite_samples_are_silent(bad, dtype, bits, tmp_path):
    sound = tone(1.0, 44_100)[0].astype(dtype) / 32_768
    sound[10_000:10_010] = bad
    (found,) = await samples(wav(sound.tobytes(), rate=44_100, bits=bits, tag=3), tmp_path)
    assert np.isfinite(found).all()
    around = np.r_[found[:3_500], found[3_750:]]
    assert np.abs(around).max() < 0.26


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{path}</BaseURL></MPD>',
        "http://127.0.0.1/a.wav\n",
    ],
)
async def test_what_names_other_files_is_refused(playlist, tmp_path_factory, tmp_path):
    secret = tmp_path_factory.mktemp("other") / "secret.wav"
    secret.write_bytes(wav(TEN_SECONDS))
    assert NOT_AUDIO in await refusal(playlist.format(path=secret).encode(), tmp_path)


@pytest.mark.parametrize("count", [10**7, 2**32 - 1])
async def test_an_index_without_end_is_not_built(count, tmp_path):
    data = bytearray(encoded("m4a aac", tone(1.0)))
    struct.pack_into(">II", data, data.index(b"stsz") + 8, 1, count)
    assert "an index of more than" in await refusal(bytes(data), tmp_path)


async def test_a_compressed_index_is_not_unpacked(tmp_path):
    packed = zlib.compress(bytes(10**6))
    body = struct.pack(">I4sI", 12 + len(packed), b"cmvd", 2**31) + packed
    cmov = struct.pack(">I4s", 8 + 12 + len(body), b"cmov") + struct.pack(">I4s4s", 12, b"dcom", b"zlib") + body
    moov = struct.pack(">I4s", 8 + len(cmov), b"moov") + cmov
    assert "compressed" in await refusal(moov, tmp_path)


async def test_another_codec_in_a_known_container(tmp_path):
    assert "adpcm" in await refusal(wav(TEN_SECONDS, bits=4, tag=0x11), tmp_path)


async def test_a_wav_header_in_front_of_raw_samples_counts(tmp_path):
    file = wav(TEN_SECONDS, rate=8_000)
    assert np.array_equal(await samples(file, tmp_path, raw(Encoding.MULAW, 44_100)), await samples(file, tmp_path))


async def test_the_next_file_works(tmp_path):
    await refusal(b"text" * 1000, tmp_path)
    async with decoded(wav(TEN_SECONDS), tmp_path) as audio:
        assert (audio.seconds, audio.channels) == (10.0, 1)
