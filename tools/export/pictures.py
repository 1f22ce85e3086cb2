"""Small deterministic pictures for self-tests: soft shapes, and lines of text in a 5 x 7 dot font. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

FONT = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "0": (14, 17, 19, 21, 25, 17, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "6": (6, 8, 16, 30, 17, 17, 14),
}
"""Seven rows of five dots for each character, the highest bit on the left."""


def scenes(count: int, height: int, width: int) -> Pixels:
    """Return uint8 RGB [count, height, width, 3]: shaded backgrounds, a round face-like shape, a box, some noise."""
    return np.stack([_scene(np.random.default_rng(seed), height, width) for seed in range(count)])


def _scene(random: np.random.Generator, height: int, width: int) -> Pixels:
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    picture = np.stack([120 + 80 * np.sin(3 * rows + phase) * np.cos(2 * columns) for phase in (0, 1, 2)], axis=-1)
    top, left = random.uniform(0.3, 0.6, size=2)
    round_shape = ((rows - top) / 0.25) ** 2 + ((columns - left) / 0.2) ** 2
    picture[round_shape < 1] = random.uniform(150, 230, size=3)
    for eye in (-0.07, 0.07):
        picture[((rows - top + 0.06) ** 2 + (columns - left - eye) ** 2) < 0.03**2] = 30
    picture[(rows > 0.75) & (rows < 0.95) & (abs(columns - left) < 0.3)] = random.uniform(20, 100, size=3)
    picture += random.normal(scale=4, size=picture.shape)
    return np.asarray(np.clip(picture, 0, 255), dtype=np.uint8)


def text_lines(texts: list[str], height: int, width: int, dot: int = 5) -> Pixels:
    """Return uint8 RGB [texts, height, width, 3]: dark text on a light ground, `dot` pixels a dot."""
    return np.stack([_text_line(text, height, width, dot) for text in texts])


def _text_line(text: str, height: int, width: int, dot: int) -> Pixels:
    picture = np.full((height, width, 3), (250, 246, 240), dtype=np.uint8)
    top, left = (height - 7 * dot) // 2, 2 * dot
    for character in text:
        for row, bits in enumerate(FONT.get(character, (0,) * 7)):
            for column in range(5):
                if bits >> (4 - column) & 1:
                    y, x = top + row * dot, left + column * dot
                    picture[y : y + dot, x : x + dot] = (40, 30, 60)
        left += 6 * dot
    return picture
