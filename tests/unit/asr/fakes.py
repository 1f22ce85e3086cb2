"""Engines that answer from memory."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from services.asr.instruments import Instruments
from services.asr.model import Reading, Window
from services.asr.options import ServedModel
from services.asr.recognition import Recognition
from services.asr.vocabulary import Vocabulary
from services.common.batcher import Batcher, BatchInstruments, BatchLimits
from services.common.load import Load
from services.common.telemetry import Telemetry

NONE = np.zeros(0, np.float32)
Answer = Callable[[Window], Reading]


def reading(
    vocabulary: Vocabulary, *texts: str, scores: Sequence[float] = (), no_speech: float = 0.0, words: bool = False
) -> Reading:
    """What an engine says; `|1.5|` in a text is a time stamp, and each byte of a text takes 0.1 s."""
    ids = [_ids(vocabulary, text) for text in texts]
    number = len(vocabulary.text_ids(ids[0])) if words else 0
    return Reading(
        ids,
        list(scores) or [-0.2 - place / 10 for place in range(len(texts))],
        no_speech,
        np.arange(number + 1, dtype=np.float32) / 10 if words else NONE,
        np.full(number, 0.9, np.float32),
        NONE,
    )


def _ids(vocabulary: Vocabulary, text: str) -> list[int]:
    first_time = vocabulary.prompt("en", timestamps=False)[-1] + 1
    ids: list[int] = []
    for place, part in enumerate(text.split("|")):
        ids += [first_time + round(float(part) * 50)] if place % 2 else vocabulary.encode(part)
    return ids


def languages(*shares: float) -> Reading:
    return Reading([], [], 0.0, NONE, NONE, np.array(shares, np.float32))


class Engine:
    """Answers windows by `answer`; remembers what it was asked, batch by batch."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.batches: list[list[Window]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def windows(self) -> list[Window]:
        return [window for batch in self.batches for window in batch]

    async def read(self, windows: list[Window]) -> list[Reading]:
        self.batches.append(windows)
        await self.gate.wait()
        return [self.answer(window) for window in windows]


def recognition(
    engine: Engine, vocabulary: Vocabulary, telemetry: Telemetry, model: str = "base", beam_size: int = 1
) -> Recognition:
    served = ServedModel(model, vocabulary.languages, vocabulary.multilingual, model, "MIT", "cpu-int8")
    batcher = Batcher(engine.read, BatchLimits(4, 16 * 3000, 2), Load(1), BatchInstruments(telemetry), model)
    return Recognition(served, batcher, vocabulary, beam_size, Instruments(telemetry))
