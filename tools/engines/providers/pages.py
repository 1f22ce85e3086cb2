"""Pages of text to calibrate and to judge the text reader with: rendered ones whose words are known, and scans."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.engines.providers.embedding import described_data, load_corpus
from tools.engines.providers.pictures import CALIBRATION_SEED, JUDGING_SEED
from tools.export.pages import page
from tools.export.photographs import carried

Pixels = NDArray[np.uint8]
LINES_A_PAGE, COLUMNS = 8, 46
SIZES = (13, 17, 22, 28, 36)


@dataclass(frozen=True, slots=True)
class PrintedPage:
    """A page and what is printed on it."""

    pixels: Pixels
    """[height, width, 3]."""
    text: str
    """All lines, one space between them."""


def calibration_pages(count: int) -> Iterator[Pixels]:
    """Yield pages to calibrate with: English prose, two scans of other letters besides."""
    for one in _printed(described_data(), count, CALIBRATION_SEED):
        yield one.pixels
    yield from scans()


def judging_pages(count: int) -> Iterator[PrintedPage]:
    """Yield pages to judge with, whose words are known."""
    return _printed(load_corpus().passages, count, JUDGING_SEED)


def scans() -> Iterator[Pixels]:
    """Yield the scanned page and the photographed text that scikit-image carries."""
    for name in ("page", "text"):
        yield np.asarray(carried(name).convert("RGB"), dtype=np.uint8)


def _printed(texts: Sequence[str], count: int, seed: int) -> Iterator[PrintedPage]:
    """Yield pages in several sizes and colours, some askew, all a little noisy."""
    random = np.random.default_rng(seed)
    lines = [line for text in texts for line in textwrap.wrap(text, COLUMNS) if line.isascii()]
    for number in range(count):
        first = number * LINES_A_PAGE % max(1, len(lines) - LINES_A_PAGE)
        chosen = lines[first : first + LINES_A_PAGE]
        dark, pale = random.integers(0, 90, size=3), random.integers(180, 256, size=3)
        ink, paper = (pale, dark) if random.random() < 0.25 else (dark, pale)
        colour = int(paper[0]), int(paper[1]), int(paper[2])
        picture = page(chosen, SIZES[number % len(SIZES)], (int(ink[0]), int(ink[1]), int(ink[2])), colour)
        if number % 4 == 3:
            picture = picture.rotate(random.uniform(-3, 3), Image.Resampling.BICUBIC, expand=True, fillcolor=colour)
        noisy = np.asarray(picture, dtype=np.float32) + random.normal(scale=6, size=(*picture.size[::-1], 3))
        yield PrintedPage(np.clip(noisy, 0, 255).astype(np.uint8), " ".join(chosen))
