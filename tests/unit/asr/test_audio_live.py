import numpy as np
import pytest

from services.asr.sound.audio import AudioFormat, AudioLimits, Encoding
from services.asr.sound.live_decoding import LiveDecoder
from services.common.errors import Kind, ServiceError
from tests.unit.asr.audio_calls import FIELD, LIMITS, level, live, loudest_hertz, raw
from tests.unit.asr.audio_files import encoded, noise, tone, wav

OPUS, FLAC = AudioFormat(Encoding.OGG_OPUS, 0, 0), AudioFormat(Encoding.FLAC, 0, 0)


def decoder(audio_format, *, separate=False, limits=LIMITS):
    return LiveDecoder(audio_format, limits, FIELD, separate_channels=separate)


def refused(data, audio_format, **options):
    stream = decoder(audio_format, **options)
    with pytest.raises(ServiceError) as caught:
        for start in range(0, len(data), 3_200):
            stream.feed(data[start : start + 3_200])
        stream.finish()
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, FIELD)
    return caught.value.message


@pytest.mark.parametrize("encoding", [Encoding.PCM_S16LE, Encoding.PCM_U8, Encoding.MULAW, Encoding.ALAW])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pieces_give_what_the_whole_gives(encoding, rate, channels):
    data = np.random.default_rng(1).bytes(rate * channels * encoding.sample_bytes // 2)
    whole = live(data, raw(encoding, rate, channels), [len(data)], separate=True)
    assert whole.shape[0] == channels
    assert abs(whole.shape[1] - 8_000) <= 1
    assert np.array_equal(whole, live(data, raw(encoding, rate, channels), [1, 500, 3201], separate=True))


@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_little_is_held_back(rate):
    stream = decoder(raw(rate=rate))
    came = sum(stream.feed(tone(0.1, rate).tobytes()).shape[1] for _ in range(10))
    assert 16_000 - came < 160
    assert came + stream.finish().shape[1] == 16_000


def test_a_flac_frame_comes_out_when_the_next_begins():
    data = encoded("flac", tone(10.0))
    half = decoder(FLAC).feed(data[: len(data) // 2])
    assert half.shape[1] > 4.0 * 16_000


def test_an_opus_page_comes_out_when_it_is_there():
    data = encoded("ogg opus", noise(10.0, 48_000), 48_000)
    half = decoder(OPUS).feed(data[: len(data) // 2])
    assert half.shape[1] > 3.5 * 16_000


@pytest.mark.parametrize("kind", ["flac", "ogg opus"])
def test_channels_of_streams(kind):
    data = encoded(kind, np.concatenate([tone(1.0, 48_000, 300), tone(1.0, 48_000, 900)]), 48_000)
    audio_format = FLAC if kind == "flac" else OPUS
    stream = decoder(audio_format, separate=True)
    assert stream.channels == 0
    found = np.concatenate([stream.feed(data), stream.finish()], axis=1)
    assert stream.channels == 2
    assert [round(loudest_hertz(channel)) for channel in found] == pytest.approx([300, 900], abs=2)
    assert live(data, audio_format, [1000]).shape[0] == 1
    assert "2 channels, not the 1" in refused(data, AudioFormat(audio_format.encoding, 0, 1), separate=True)


@pytest.mark.parametrize("sizes", [[1], [5, 40], [10_000]])
@pytest.mark.parametrize("extra", [b"", b"LIST\4\0\0\0INFO", b"junk\3\0\0\0abc\0"])
def test_a_wav_header_is_taken_off(sizes, extra):
    sound = noise(0.2)
    found = live(wav(sound.tobytes(), extra=extra), raw(), sizes)
    assert np.array_equal(found, sound / np.float32(32_768))


def test_what_follows_the_samples_of_a_wav_is_no_sound():
    sound = noise(0.2)
    found = live(wav(sound.tobytes(), data_bytes=None) + b"LIST\4\0\0\0INFO", raw(), [100])
    assert np.array_equal(found, sound / np.float32(32_768))


def test_the_header_of_a_wav_counts():
    data = encoded("wav mulaw", tone(1.0, 8_000), 8_000)
    (found,) = live(data, raw(rate=44_100), [999])
    assert loudest_hertz(found) == pytest.approx(440, abs=2)
    assert level(found) == pytest.approx(0.25, rel=0.03)


@pytest.mark.parametrize("head", [b"R", b"RIFF", b"RIFX", b"RIFFabcdWAVX", b"RI\0\0"])
def test_samples_that_begin_like_a_header_are_samples(head):
    data = head + bytes(len(head) % 2)
    assert np.array_equal(live(data, raw(), [1]), np.frombuffer(data, "<i2")[None] / np.float32(32_768))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (wav(bytes(100), bits=24), "24-bit"),
        (wav(bytes(100), rate=0), "4000 to 192000 Hz"),
        (wav(bytes(100), channels=9), "1 to 8"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + bytes(100), "nothing of its format"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0" + bytes(100), "broken"),
        (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff" + bytes(100), "broken"),
    ],
)
def test_headers_that_are_no_use(data, words):
    assert words in refused(data, raw())


@pytest.mark.parametrize("audio_format", [FLAC, OPUS])
@pytest.mark.parametrize("data", [b"text of no use" * 100, bytes(1000), b"fLaC" + bytes(1000), b"OggS" + bytes(1000)])
def test_what_is_no_stream(audio_format, data):
    refused(data, audio_format)


@pytest.mark.parametrize("kind", ["flac", "ogg opus"])
def test_a_stream_that_breaks(kind):
    data = bytearray(encoded(kind, noise(4.0, 48_000), 48_000))
    data[len(data) // 2] ^= 0xFF
    assert "broken" in refused(bytes(data), FLAC if kind == "flac" else OPUS)


def test_a_flac_stream_that_is_cut_off():
    data = encoded("flac", noise(1.0))
    assert "broken" in refused(data[:-100], FLAC)
    assert "broken" in refused(data[:30], FLAC)


def test_an_ogg_stream_with_another_codec():
    stereo = np.concatenate([tone(1.0, 44_100)] * 2)
    assert "another codec" in refused(encoded("ogg vorbis", stereo, 44_100), OPUS)


def test_links_of_a_chain_follow_each_other():
    first, second = (encoded("ogg opus", tone(1.0, 48_000, hertz), 48_000) for hertz in (300, 900))
    (found,) = live(first + second, OPUS, [777])
    assert len(found) == 32_000
    assert [round(loudest_hertz(part)) for part in (found[:16_000], found[16_000:])] == pytest.approx([300, 900], abs=2)


def test_limits_of_streams():
    data = encoded("flac", np.concatenate([tone(1.0)] * 3))
    assert "1 to 2" in refused(data, FLAC, limits=AudioLimits(LIMITS.bytes, LIMITS.seconds, channels=2))


def test_nothing_gives_nothing():
    stream = decoder(raw(channels=2), separate=True)
    assert stream.feed(b"").shape == (2, 0)
    assert stream.finish().shape == (2, 0)
    for audio_format in (FLAC, OPUS):
        assert live_nothing(audio_format).shape == (1, 0)


def live_nothing(audio_format):
    return decoder(audio_format).finish()


def test_half_a_sample_at_the_end_of_a_stream_is_left_out():
    assert live(b"\1\2\3", raw(), [1]).shape == (1, 1)
