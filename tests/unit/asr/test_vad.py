import numpy as np
import pytest

from services.asr.vad import FRAME, Vad

RATE = 16_000


@pytest.fixture
def sound() -> np.ndarray:
    generator = np.random.default_rng(1)
    time = np.arange(40 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * harmonic * time) / harmonic for harmonic in range(1, 12))
    return (0.1 * voice * (np.sin(2 * np.pi * 3 * time) > 0) + 0.01 * generator.normal(size=len(time))).astype("f4")


@pytest.mark.parametrize("piece", [1, 100, FRAME, 1600, 16_001])
def test_pieces_give_the_same_as_the_whole(vad: Vad, sound: np.ndarray, piece: int) -> None:
    sound = sound[: piece * 300]
    stream = vad.stream()
    pieces = [stream.feed(sound[first : first + piece]) for first in range(0, len(sound), piece)]
    whole = vad.stream().feed(sound)
    assert len(whole) == len(sound) // FRAME
    assert np.allclose(np.concatenate(pieces), whole, atol=1e-4)


def test_agrees_with_the_package_the_model_comes_from(vad: Vad, sound: np.ndarray) -> None:
    from faster_whisper.vad import get_vad_model

    sound = sound[: 1000 * FRAME]
    theirs = get_vad_model()(sound.copy()).reshape(-1)
    assert np.allclose(vad.stream().feed(sound)[:-1], theirs[:-1], atol=1e-4)  # it mutes the end of the last frame


def test_the_last_frame_is_filled_up(vad: Vad, sound: np.ndarray) -> None:
    stream = vad.stream()
    assert stream.feed(sound[: FRAME + 1]).shape == (1,)
    assert stream.finish().shape == (1,)
    assert stream.finish().shape == (0,)


def test_silence_is_no_speech(vad: Vad) -> None:
    assert vad.stream().feed(np.zeros(10 * RATE, np.float32)).max() < 0.2


def test_streams_do_not_know_of_each_other(vad: Vad, sound: np.ndarray) -> None:
    alone = vad.stream().feed(sound)
    one, other = vad.stream(), vad.stream()
    mixed = []
    for first in range(0, len(sound), 8000):
        mixed.append(one.feed(sound[first : first + 8000]))
        other.feed(sound[::-1][first : first + 8000].copy())
    assert np.allclose(np.concatenate(mixed), alone, atol=1e-4)
