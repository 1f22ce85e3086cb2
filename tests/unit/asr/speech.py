"""Real speech for tests, and sounds that nobody makes with a voice."""

from pathlib import Path

import av
import numpy as np

RATE = 16_000
FOLDER = Path(__file__).resolve().parents[2] / "data" / "speech"
JFK, NOVEL = FOLDER / "jfk.flac", FOLDER / "sense_and_sensibility.flac"
JFK_WORDS = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"


def samples_of(path: Path) -> np.ndarray:
    """float32 [n] at 16 kHz."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
    return np.concatenate(frames).astype(np.float32) / 32_768


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def unspoken(seconds: float = 8.0) -> dict[str, np.ndarray]:
    """Silence, noises of several colours and levels, hum, chords, beeps: float32 [n] each."""
    random, n = np.random.default_rng(7), round(seconds * RATE)
    time = np.arange(n) / RATE
    sounds = {"silence": np.zeros(n)}
    for level in (0.001, 0.02, 0.3):
        sounds[f"white noise {level}"] = random.normal(0, level, n)
        sounds[f"pink noise {level}"] = level * _coloured(random, n, 0.5)
        sounds[f"brown noise {level}"] = level * _coloured(random, n, 1.0)
    for hertz in (50, 100):
        sounds[f"hum {hertz} Hz"] = 0.3 * _tone(hertz, time, 5)
    for tempo in (1, 2, 4):
        sounds[f"chords {tempo} a second"] = _chords(random, tempo, seconds)
    sounds["beeps"] = 0.4 * _tone(1000, time, 1) * (time % 2 < 1)
    sounds["clicks"] = np.where(random.random(n) < 2 / RATE, random.normal(0, 0.8, n), 0)
    return {name: sound.clip(-1, 1).astype(np.float32) for name, sound in sounds.items()}


def _coloured(random: np.random.Generator, n: int, exponent: float) -> np.ndarray:
    spectrum = np.fft.rfft(random.normal(size=n))
    noise = np.fft.irfft(spectrum / np.maximum(1, np.arange(len(spectrum))) ** exponent, n)
    return noise / noise.std()


def _tone(hertz: float, time: np.ndarray, overtones: int) -> np.ndarray:
    return sum((np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, overtones + 1)), np.zeros(len(time)))


def _chords(random: np.random.Generator, tempo: int, seconds: float) -> np.ndarray:
    music = np.zeros(round(seconds * RATE))
    for beat in range(round(seconds * tempo)):
        part = music[beat * RATE // tempo :][: 2 * RATE]
        time, root = np.arange(len(part)) / RATE, 220 * 2 ** (random.integers(12) / 12)
        for interval in (1, 1.26, 1.5, 2):
            part += 0.05 * np.exp(-2 * time) * _tone(root * interval, time, 6)
    return music
