"""Damages audio files at random and decodes them, as files and as streams.

    python -m tests.integration.asr.audio_fuzzing KIND FIRST_SEED LAST_SEED

A process of its own, as a fault in a decoder may end it. Whatever is not a result or INVALID_ARGUMENT ends it too.
"""

import asyncio
import faulthandler
import sys
import tempfile
from pathlib import Path

import numpy as np

from services.asr.sound.audio import AudioFormat, AudioLimits, Encoding
from services.asr.sound.decoding import decode
from services.asr.sound.live_decoding import LiveDecoder
from services.asr.sound.spool import Spool
from services.common.errors import Kind, ServiceError
from tests.unit.asr.audio_files import KINDS, encoded, noise, tone

LIMITS = AudioLimits(bytes=10_000_000, seconds=20.0, channels=8)
LIVE = {
    "flac": AudioFormat(Encoding.FLAC, 0, 0),
    "ogg opus": AudioFormat(Encoding.OGG_OPUS, 0, 0),
    "wav s16": AudioFormat(Encoding.PCM_S16LE, 16_000, 1),
}
LONGEST_SECONDS = 20  # for one variant: far more than it takes on any machine


def damaged(data, random):
    """A variant: bytes flipped, a part cut out, doubled, moved or zeroed, mostly where the headers are."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 5)):
        end = len(changed) if random.random() < 0.4 else min(len(changed), 2_000)
        at = int(random.integers(0, max(1, end)))
        if random.random() < 0.2:
            at = max(0, len(changed) - 1 - at)
        size = int(random.integers(1, 200))
        match random.integers(0, 7):
            case 0 | 1:
                for index in range(at, min(at + int(random.integers(1, 9)), len(changed))):
                    changed[index] ^= 1 << int(random.integers(0, 8))
            case 2:
                changed[at : at + 4] = random.bytes(4)
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at:at] = changed[at : at + size]
            case 5:
                changed[at : at + size] = bytes(size)
            case 6:
                changed[at : at + 4] = [b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)][int(random.integers(0, 3))]
    return bytes(changed[: int(random.integers(1, len(changed) + 1))] if random.random() < 0.1 else changed)


async def file_of(data, directory):
    async with Spool(directory, LIMITS.bytes, "audio") as spool:
        await spool.write(data)
        audio = await decode(spool, None, LIMITS, separate_channels=False)
    if not np.isfinite(audio.read(0, 0, audio.samples)).all() or audio.seconds > LIMITS.seconds:
        raise AssertionError("samples that cannot be")
    audio.close()


def stream_of(data, audio_format, random):
    decoder = LiveDecoder(audio_format, LIMITS, "audio", separate_channels=False)
    at = 0
    while at < len(data):
        size = int(random.integers(1, 8_000))
        decoder.feed(data[at : at + size])
        at += size
    decoder.finish()


async def attempt(work):
    try:
        await work
    except ServiceError as error:
        if error.kind is not Kind.INVALID_ARGUMENT:
            raise
        return 0
    return 1


async def as_stream(data, audio_format, random):
    stream_of(data, audio_format, random)


async def fuzz(kind, first, last):
    rate = 48_000 if "opus" in kind else 44_100
    sound = np.concatenate([tone(1.0, rate) // 2 + noise(1.0, rate, level=0.02)] * (2 if "vorbis" in kind else 1))
    data = encoded(kind, sound, rate)
    accepted = 0
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(first, last):
            random = np.random.default_rng(seed)
            variant = damaged(data, random)
            print(seed, file=sys.stderr, flush=True)
            faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
            accepted += await attempt(file_of(variant, Path(directory)))
            if kind in LIVE:
                await attempt(as_stream(variant, LIVE[kind], random))
    faulthandler.cancel_dump_traceback_later()
    print(f"{accepted} of {last - first} accepted")


if __name__ == "__main__":
    if sys.argv[1] not in KINDS:
        sys.exit(f"{sys.argv[1]} is none of {list(KINDS)}")
    asyncio.run(fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
