"""A Whisper on CTranslate2 and what it reads in one window, greedily. Needs ctranslate2 and numpy only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from services.asr.selftest import SelfTest
from tools.export.command import ExportRefusedError

SERVED, EXACT = "int8", "float32"
ENCODER_RATE = 50
"""Positions a second."""
LONGEST = 100
"""Tokens of the text of a short window."""


@dataclass(frozen=True, slots=True)
class Ids:
    """Special tokens."""

    start: int
    end: int
    english: list[int]
    """What follows <|startoftranscript|> for English with time stamps."""
    languages: list[str]
    """Language tokens, none of a model of English only."""

    @classmethod
    def read(cls, folder: Path, *, multilingual: bool) -> Ids:
        """Read them from the model's files."""
        entries = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        ids = {entry["content"]: entry["id"] for entry in entries}
        texts = {number: text for text, number in ids.items()}
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        english = [ids["<|en|>"], ids["<|transcribe|>"]] if multilingual else []
        languages = [texts[number] for number in sorted(config["lang_ids"])] if multilingual else []
        return cls(ids["<|startoftranscript|>"], ids["<|endoftext|>"], english, languages)


def read_window(
    folder: Path, mel: NDArray[np.float32], frames: int, compute_type: str, *, multilingual: bool
) -> SelfTest:
    """Return what the model in `folder` reads in the window mel [80, n], of which `frames` are sound.

    ExportRefusedError when the model is of the other kind, or reads nothing or without an end.
    """
    ids = Ids.read(folder, multilingual=multilingual)
    model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type=compute_type)
    if model.is_multilingual != multilingual:
        raise ExportRefusedError(f"multilingual is {str(multilingual).lower()} in the manifest, but not in the files")
    if model.n_mels != len(mel):
        raise ExportRefusedError(f"the model takes {model.n_mels} mel bands; served are {len(mel)}")
    encoded = model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(mel[None])), to_cpu=True)
    prompt = [ids.start, *ids.english]
    result = model.generate(encoded, [prompt], beam_size=1, max_length=2 * LONGEST, return_scores=True)[0]
    tokens = list(result.sequences_ids[0])
    if not 0 < len(tokens) < LONGEST:
        raise ExportRefusedError(f"{len(tokens)} tokens are read in a sentence")
    text = [token for token in tokens if token < ids.end]
    rows, positions = np.array(model.align(encoded, prompt, [text], frames)[0].alignments).T
    return SelfTest(
        mel=mel,
        frames=frames,
        prompt=prompt,
        tokens=tokens,
        score=result.scores[0] * len(tokens) / (len(tokens) + 1),
        end=float(positions[rows == len(text)].min()) / ENCODER_RATE,
        language=ids.languages.index(model.detect_language(encoded)[0][0][0]) if multilingual else -1,
    )


def fault(exact: SelfTest, folder: Path, *, multilingual: bool) -> str | None:
    """Return what the precision that is served reads otherwise than `exact`, or None."""
    served = read_window(folder, exact.mel, exact.frames, SERVED, multilingual=multilingual)
    languages = np.zeros(max(served.language, exact.language) + 1, dtype=np.float32)
    languages[served.language :][:1] = 1
    return exact.fault(served.tokens, served.score, np.array([served.end], dtype=np.float32), languages)
