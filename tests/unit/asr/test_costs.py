import pytest

from services.asr.costs import Costs
from services.asr.sound.audio import AudioFormat, Encoding


def test_samples_are_counted() -> None:
    costs = Costs(3600)
    assert costs.of_bytes(32_000, AudioFormat(Encoding.PCM_S16LE, 16_000, 1)) == pytest.approx(100)
    stereo = AudioFormat(Encoding.MULAW, 8_000, 2)
    assert costs.of_bytes(64_000, stereo) == pytest.approx(400)
    assert costs.of_bytes(64_000, stereo, separate=True) == pytest.approx(800)


def test_files_are_estimated_and_learnt() -> None:
    costs = Costs(3600)
    guess = costs.of_bytes(1_000_000, None)
    for _ in range(40):
        costs.learn(1_000_000, audio_seconds=1000, speech_seconds=500)
    assert guess > 0
    assert costs.of_bytes(1_000_000, None) == pytest.approx(50_000, rel=0.01)
    assert costs.of_seconds(10) == pytest.approx(500, rel=0.01)


def test_nothing_is_more_than_the_longest_file() -> None:
    assert Costs(60).of_bytes(10**12, None) == 6000


def test_nothing_is_learnt_of_nothing() -> None:
    costs = Costs(60)
    costs.learn(0, 0, 0)
    assert costs.of_seconds(1) == 100
