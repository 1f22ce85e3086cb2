import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from services.asr.mel import HOP, log_mel


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 3), (1, 3), (400, 3), (16_000, 100), (16_001, 101), (480_000, 3000)]
)
def test_ten_milliseconds_a_frame(samples: int, frames: int) -> None:
    mel = log_mel(np.zeros(samples, np.float32))
    assert (mel.shape, mel.dtype) == ((80, frames), np.float32)
    assert np.isfinite(mel).all()


def test_it_is_whispers() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 100 * HOP).astype("f4")
    assert np.array_equal(log_mel(sound), FeatureExtractor()(sound, padding=0))
