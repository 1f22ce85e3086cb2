"""Samples to the log-mel spectrogram that Whisper takes."""

from functools import cache

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

Floats = NDArray[np.float32]
HOP = 160
"""Samples of a frame, at 16 kHz: 10 ms."""
_LEAST = 3 * HOP  # samples: more than the analysis window


def log_mel(samples: Floats) -> Floats:
    """Return the spectrogram [80, frames] of samples [n] at 16 kHz, not padded to 30 s; a begun frame counts.

    Takes 1 ms for each second of audio or so: longer windows belong into a thread.
    """
    filling = max(-len(samples) % HOP, _LEAST - len(samples))
    return np.ascontiguousarray(_extractor()(samples, padding=filling), np.float32)


@cache
def _extractor() -> FeatureExtractor:
    return FeatureExtractor()
