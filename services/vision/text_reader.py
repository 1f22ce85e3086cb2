"""Lines of text: find them on the page, cut them out, turn those upside down, read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from services.common.batcher import Batcher
from services.vision import ctc
from services.vision.model import ROTATION_WIDTH
from services.vision.pool import PixelPool
from services.vision.tasks import Mark, Options, Pixels, Points, ServedModel
from services.vision.text_boxes import find_boxes
from services.vision.text_lines import (
    LONGEST_SIDE,
    Page,
    border_of,
    cut,
    finding_size,
    for_reading,
    for_rotation,
    page_of,
    page_size,
)
from services.vision.turnstile import Turn

UPSIDE_DOWN = 0.9
"""A line is turned where the graph is surer than this."""
VERMILION = 5
"""Among the colours of annotation."""
DOUBTFUL = 0.8
"""A line read with less confidence is also read the other way round, and the surer reading stays: the graph that tells
what is upside down is wrong at times, of long lines above all."""
READING_SHARE = 2.0
"""Finding and reading the lines of a page cost about so many times what finding them costs."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text."""

    text: str
    score: float
    corners: Points
    """[4, 2]: from the top left clockwise in the direction of reading, 0 to 1."""


@dataclass(frozen=True, slots=True)
class TextReader:
    """Reads text with one model of three graphs."""

    model: ServedModel
    alphabet: Sequence[str]
    """Characters by number, the first one blank."""
    finder: Batcher[Pixels, NDArray[np.float32]]
    rotation: Batcher[Pixels, float]
    reader: Batcher[Pixels, tuple[NDArray[np.int32], NDArray[np.float32]]]
    pool: PixelPool
    weight: float
    """Slot-seconds for each pixel of a page in which lines are found."""

    def scale(self, width: int, height: int) -> float:
        """See Task."""
        return min(1.0, LONGEST_SIDE / max(width, height))

    def memory(self, width: int, height: int) -> int:
        """See Task. The page, the page as lines are found in it, its map of floats, and lines cut out of it."""
        return 12 * _finding_pixels(width, height)

    def cost(self, width: int, height: int) -> float:
        """See Task."""
        return self.weight * _finding_pixels(width, height) * READING_SHARE

    def prepare(self, pixels: Pixels) -> Page:
        """See Task."""
        return page_of(pixels)

    async def find(self, prepared: Page, options: Options, turn: Turn) -> list[TextLine]:
        """See Task."""
        finding = prepared.finding
        (text_map,) = await self.finder.submit([finding], [finding.shape[0] * finding.shape[1]], turn.priority)
        lines, corners = await self.pool.run(partial(_cut_lines, prepared, text_map), turn)
        turned = await self._upside_down(lines, turn)
        read = await self._read(lines, corners, turned, turn)
        doubtful = [index for index, line in enumerate(read) if line.score < DOUBTFUL]
        again = await self._read(
            [lines[i] for i in doubtful], [corners[i] for i in doubtful], [not turned[i] for i in doubtful], turn
        )
        for index, other in zip(doubtful, again, strict=True):
            read[index] = max(read[index], other, key=lambda line: line.score)
        return [line for line in read if line.text.strip() and line.score >= options.threshold]

    def marks(self, found: Sequence[TextLine]) -> list[Mark]:
        """See Task. Outlines alone: text would cover the lines above."""
        return [Mark("", VERMILION, line.corners) for line in found]

    async def _read(
        self, lines: Sequence[Pixels], corners: Sequence[Points], turned: Sequence[bool], turn: Turn
    ) -> list[TextLine]:
        """Read lines with their corners on the page; `turned` says which are upside down."""
        strips = await self.pool.run(partial(_for_reading, lines, turned), turn)
        steps = await self.reader.submit(strips, [strip.shape[1] for strip in strips], turn.priority)
        return [
            TextLine(*ctc.read(*row, self.alphabet), np.roll(place, 2, axis=0) if upset else place)
            for row, place, upset in zip(steps, corners, turned, strict=True)
        ]

    async def _upside_down(self, lines: Sequence[Pixels], turn: Turn) -> list[bool]:
        small = await self.pool.run(lambda: [for_rotation(line) for line in lines], turn)
        chances = await self.rotation.submit(small, [ROTATION_WIDTH] * len(small), turn.priority)
        return [chance > UPSIDE_DOWN for chance in chances]


def _finding_pixels(width: int, height: int) -> int:
    across, down = page_size(width, height)
    across, down = finding_size(across, down + 2 * border_of(across, down))
    return across * down


def _cut_lines(page: Page, text_map: NDArray[np.float32]) -> tuple[list[Pixels], list[Points]]:
    """Return the lines of a page and their corners, 0 to 1 of the picture."""
    height, width = page.pixels.shape[:2]
    lines, places = [], []
    for box in find_boxes(text_map, width, height):
        line, corners = cut(page.pixels, box)
        lines.append(line)
        places.append(np.clip((corners - (0, page.border)) / page.scaled, 0, 1).astype(np.float32))
    return lines, places


def _for_reading(lines: Sequence[Pixels], turned: Sequence[bool]) -> list[Pixels]:
    return [for_reading(line, upset) for line, upset in zip(lines, turned, strict=True)]
