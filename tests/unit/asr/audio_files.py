"""Audio files of every kind, made from samples with the encoders PyAV brings."""

import io
import struct
import tempfile
from fractions import Fraction

import av
import numpy as np

RATE = 16_000

KINDS = {
    "wav u8": ("pcm_u8", "wav"),
    "wav s16": ("pcm_s16le", "wav"),
    "wav s24": ("pcm_s24le", "wav"),
    "wav s32": ("pcm_s32le", "wav"),
    "wav f32": ("pcm_f32le", "wav"),
    "wav f64": ("pcm_f64le", "wav"),
    "wav alaw": ("pcm_alaw", "wav"),
    "wav mulaw": ("pcm_mulaw", "wav"),
    "flac": ("flac", "flac"),
    "mp3": ("libmp3lame", "mp3"),
    "ogg vorbis": ("vorbis", "ogg"),
    "ogg opus": ("libopus", "ogg"),
    "m4a aac": ("aac", "ipod"),
    "m4a alac": ("alac", "ipod"),
    "adts aac": ("aac", "adts"),
    "mp4 aac": ("aac", "mp4"),
    "webm opus": ("libopus", "webm"),
    "webm vorbis": ("vorbis", "webm"),
}
"""Codec and container."""


def tone(seconds=2.0, rate=RATE, hertz=440.0, level=0.25):
    """A sine [1, n] of 16 bits."""
    samples = np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate) * level * 32_768
    return np.rint(samples).astype(np.int16)[None]


def noise(seconds=2.0, rate=RATE, level=0.1, seed=1):
    """White noise [1, n] of 16 bits."""
    samples = np.random.default_rng(seed).normal(0, level * 32_768, round(seconds * rate))
    return samples.clip(-32_768, 32_767).astype(np.int16)[None]


def encoded(kind, samples, rate=RATE, *, options=None, video=False, layout=None):
    """A file of a kind with samples [channels, n]; FFmpeg's own Vorbis encoder knows two channels only."""
    codec, container = KINDS[kind]
    layout = layout or {1: "mono", 2: "stereo"}.get(len(samples), f"{len(samples)} channels")
    with tempfile.NamedTemporaryFile() as file:  # the MP4 writer opens it twice
        _write(file.name, codec, container, samples, rate=rate, layout=layout, options=options or {}, video=video)
        return file.read()


def video_only(container="mp4"):
    """A file with pictures and no sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as target:
        _encode_video(target, target.add_stream("mpeg4" if container == "mp4" else "vp8", rate=10))
    return buffer.getvalue()


def wav(data, *, rate=RATE, channels=1, bits=16, tag=1, data_bytes=None, extra=b""):
    """A WAV file with any header."""
    fmt = struct.pack(
        "<HHIIHH", tag, channels, rate, rate * channels * bits // 8 & 0xFFFFFFFF, channels * bits // 8, bits
    )
    size = len(data) if data_bytes is None else data_bytes
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + extra + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(len(body), 0xFFFFFFFF)) + body


def _write(path, codec, container, samples, *, rate, layout, options, video):
    with av.open(path, "w", format=container, options=options) as target:
        pictures = target.add_stream("mpeg4" if container == "mp4" else "vp8", rate=10) if video else None
        experimental = {"strict": "experimental"} if codec == "vorbis" else {}
        stream = target.add_stream(codec, rate=rate, layout=layout, options=experimental)
        if pictures:
            _encode_video(target, pictures)
        for frame in _frames(stream, samples, rate, layout):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def _encode_video(target, stream):
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for index in range(10):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index * 20, np.uint8), format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 10)
        target.mux(stream.encode(frame))
    target.mux(stream.encode(None))


def _frames(stream, samples, rate, layout):
    stream.codec_context.open(strict=False)
    whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), format="s16", layout=layout)
    whole.sample_rate = rate
    convert = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate)
    fifo, position = av.AudioFifo(), 0
    for frame in [*convert.resample(whole), *(convert.resample(None) if not _same(stream, whole) else [])]:
        frame.pts = None
        fifo.write(frame)
    while frame := fifo.read(stream.codec_context.frame_size or 1024, partial=True):
        frame.pts, frame.time_base, position = position, Fraction(1, rate), position + frame.samples
        yield frame


def _same(stream, frame):
    return stream.format.name == frame.format.name
