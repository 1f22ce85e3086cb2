"""Write the self-test of a Whisper in CTranslate2's format; the model itself is served as it comes.

Runs in the environment `export-speech`: `python -m tools.export.whisper --source DIR --out DIR --facts JSON`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper.audio import decode_audio
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from tools.export.command import ExportRefusedError, run_exporter, versions
from tools.export.whisper_runtime import EXACT, SERVED, fault, read_window

SPEECH = Path(__file__).with_name("speech.flac")
"""LibriVox, Sense and Sensibility, public domain: "Unless to be rather cold-hearted ... is to be ill-disposed."."""
HOP, SILENCE = 160, 100
"""Samples of a frame, and frames of silence behind the speech, without which a short window is read over and over."""


def window() -> tuple[NDArray[np.float32], int]:
    """Return the log-mel window [80, frames] of the speech, and how many of its frames are sound."""
    samples = decode_audio(str(SPEECH))
    frames = len(samples) // HOP
    mel = FeatureExtractor()(samples)[:, :frames]
    return np.pad(mel, ((0, 0), (0, SILENCE)), constant_values=mel.min()).astype(np.float32), frames


def export(source: Path, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write selftest.npz, read in float32, and hold the precision that is served against it."""
    exact = read_window(source, *window(), EXACT, multilingual=facts["multilingual"])
    if wrong := fault(exact, source, multilingual=facts["multilingual"]):
        raise ExportRefusedError(f"{SERVED} differs from {EXACT}: {wrong}")
    exact.write(out / "selftest.npz")
    return {"tools": versions(("ctranslate2", "faster-whisper", "numpy"))}


if __name__ == "__main__":
    sys.exit(run_exporter(export, __doc__))
