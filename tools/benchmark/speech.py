"""Speech with its transcripts, in a folder of audio files and a transcripts.tsv; what is made of it; its score."""

import csv
import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.benchmark.generator import Post
from tools.benchmark.images import multipart
from tools.cli.console import Problem

RATE = 16_000
PAUSE_SECONDS = 0.6
"""Between two clips of the long file."""

Samples = NDArray[np.int16]
"""16 kHz mono [n]."""


@dataclass(frozen=True)
class Clip:
    """One file and what is said in it."""

    name: str
    file: bytes
    text: str

    @cached_property
    def samples(self) -> Samples:
        """The audio."""
        from faster_whisper.audio import decode_audio  # noqa: PLC0415 - slow to import

        floats = decode_audio(io.BytesIO(self.file), sampling_rate=RATE)
        return np.asarray(np.clip(np.rint(floats * 32768), -32768, 32767), dtype=np.int16)

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.samples) / RATE


def clips_of(folder: Path) -> list[Clip]:
    """Return the files that transcripts.tsv names: columns `file` and `text`, a header line. Raises Problem."""
    table = folder / "transcripts.tsv"
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        return [Clip(row["file"], (folder / row["file"]).read_bytes(), row["text"]) for row in rows]
    except (OSError, KeyError) as error:
        raise Problem(
            f"no speech with transcripts in {folder}: {error}",
            "--data takes a folder of audio files and a transcripts.tsv with the columns file and text",
        ) from None


def joined(clips: Sequence[Clip]) -> Samples:
    """Return all clips after each other, a pause between two."""
    pause = np.zeros(int(PAUSE_SECONDS * RATE), dtype=np.int16)
    parts = [part for clip in clips for part in (clip.samples, pause)]
    return np.concatenate(parts[:-1])


def wav(samples: Samples) -> bytes:
    """Return samples as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return file.getvalue()


def transcription(file: bytes, fields: Mapping[str, str]) -> Post:
    """Return an upload as the openai client sends it."""
    return multipart("/v1/audio/transcriptions", file, fields)


def mixed_transcriptions(file: bytes) -> list[Post]:
    """Return uploads of every format, streams that their client leaves, and files that are refused."""
    fast = {"model": "whisper-tiny.en"}
    words = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    stream = transcription(file, {"stream": "true"})
    return [
        transcription(file, fast),
        transcription(file, {**fast, **words}),
        transcription(file, {}),
        transcription(file, {**fast, "response_format": "srt"}),
        replace(stream, leave_after=16),
        replace(transcription(file[: len(file) // 2], fast), status=400),
        replace(transcription(b"no audio" * 100, fast), status=400),
    ]


def word_error_rate(said: Sequence[str], written: Sequence[str]) -> float:
    """Return the word error rate over all texts together, normalised as Whisper's authors do it."""
    import jiwer  # noqa: PLC0415 - slow to import
    from whisper_normalizer.english import EnglishTextNormalizer  # noqa: PLC0415

    normalise = EnglishTextNormalizer()
    return float(jiwer.wer([normalise(text) for text in said], [normalise(text) for text in written]))
