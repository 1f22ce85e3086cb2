"""The three graphs of the text reader, each judged inside the whole reader with the other two in full precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from services.common.manifest import Model
from services.vision import ctc
from services.vision.model import CHARACTERS, CONFIDENCES, PIXELS, ROTATED, TEXT_MAP
from services.vision.repository import CHARACTERS as ALPHABET
from services.vision.repository import lines_of
from services.vision.text_boxes import find_boxes
from services.vision.text_lines import Page, cut, for_reading, for_rotation, page_of
from services.vision.text_reader import UPSIDE_DOWN
from tools.engines.metrics.boxes import Found, agreement
from tools.engines.metrics.transcripts import character_accuracy
from tools.engines.providers.pages import Pixels, calibration_pages, judging_pages, scans
from tools.engines.sessions import open_graph
from tools.engines.subjects import Metric, Run, Subject, Tensors

CALIBRATION_PAGES, JUDGING_PAGES = 6, 10
ROTATION_PAGES = 24
"""More than for reading: here a line is one sample, and each counts twice, as it is and turned."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What the graphs of one model need of each other."""

    det: Path
    rec: Path
    alphabet: Sequence[str]


def subjects(model: Model, files: Mapping[str, Path]) -> tuple[Subject, ...]:
    """Return the graphs that find lines, tell whether they are upside down, and read them."""
    reader = Reader(files["det.onnx"], files["rec.onnx"], lines_of(files[ALPHABET]))
    parts = {
        "det": (_pages_to_find, _evaluate_finding),
        "cls": (_lines_to_turn, _evaluate_rotation),
        "rec": (_lines_to_read, _evaluate_reading),
    }
    return tuple(
        Subject(
            model.id,
            f"{model.triton_name}_{part}",
            files[f"{part}.onnx"],
            partial(calibration, reader),
            partial(evaluate, reader),
        )
        for part, (calibration, evaluate) in parts.items()
    )


def _pages_to_find(_: Reader) -> Iterator[Tensors]:
    for pixels in calibration_pages(CALIBRATION_PAGES):
        yield {PIXELS: page_of(pixels).finding[None]}


def _lines_to_turn(reader: Reader) -> Iterator[Tensors]:
    for lines in _calibration_lines(reader):
        yield {PIXELS: np.stack([for_rotation(line) for line in [*lines, *map(_half_turn, lines)]])}


def _lines_to_read(reader: Reader) -> Iterator[Tensors]:
    for lines in _calibration_lines(reader):
        for line in lines:
            yield {PIXELS: for_reading(line, turned=False)[None]}


def _calibration_lines(reader: Reader) -> Iterator[list[Pixels]]:
    find = open_graph(reader.det)
    for pixels in calibration_pages(CALIBRATION_PAGES):
        lines = _lines(page_of(pixels), find)[0]
        if lines:
            yield lines


def _evaluate_finding(reader: Reader, reference: Run, candidate: Run) -> tuple[Metric, ...]:
    printed = list(judging_pages(JUDGING_PAGES))
    pages = [page_of(one.pixels) for one in printed] + [page_of(pixels) for pixels in scans()]
    (old_lines, old_boxes), (new_lines, new_boxes) = (
        zip(*(_lines(page, run) for page in pages), strict=True) for run in (reference, candidate)
    )
    same = agreement([_upright(boxes) for boxes in old_boxes], [_upright(boxes) for boxes in new_boxes], 0.5)
    read = open_graph(reader.rec)
    texts = [one.text for one in printed]
    old, new = ([_text(read, reader, lines) for lines in found[: len(texts)]] for found in (old_lines, new_lines))
    count = sum(map(len, texts))
    return (
        Metric("characters right, whole reader", character_accuracy(texts, old), character_accuracy(texts, new), count),
        Metric("F1 of lines", 1.0, same.f1, same.boxes),
        Metric("overlap of the lines, mean", 1.0, same.mean_overlap, same.boxes, decides=False),
    )


def _evaluate_rotation(reader: Reader, reference: Run, candidate: Run) -> tuple[Metric, ...]:
    find = open_graph(reader.det)
    pages = [page_of(one.pixels) for one in judging_pages(ROTATION_PAGES)]
    upright = [line for page in pages for line in _lines(page, find)[0]]
    strips = np.stack([for_rotation(line) for line in [*upright, *map(_half_turn, upright)]])
    truth = np.repeat([False, True], len(upright))
    old, new = (run({PIXELS: strips})[ROTATED][:, 1] > UPSIDE_DOWN for run in (reference, candidate))
    return (
        Metric("lines turned rightly", float((old == truth).mean()), float((new == truth).mean()), len(truth)),
        # The truth is known: to differ from the original where that is wrong is no loss.
        Metric("lines turned alike", 1.0, float((old == new).mean()), len(truth), decides=False),
    )


def _evaluate_reading(reader: Reader, reference: Run, candidate: Run) -> tuple[Metric, ...]:
    find = open_graph(reader.det)
    printed = list(judging_pages(JUDGING_PAGES))
    texts = [one.text for one in printed]
    lines = [_lines(page_of(one.pixels), find)[0] for one in printed]
    scanned = [_lines(page_of(pixels), find)[0] for pixels in scans()]
    old, new = ([_text(run, reader, found) for found in [*lines, *scanned]] for run in (reference, candidate))
    alike = character_accuracy([text or " " for text in old], new)
    printed_old, printed_new = (character_accuracy(texts, found[: len(texts)]) for found in (old, new))
    return (
        Metric("characters right", printed_old, printed_new, sum(map(len, texts))),
        Metric("characters as the reference reads them", 1.0, alike, sum(map(len, old))),
    )


def _lines(page: Page, find: Run) -> tuple[list[Pixels], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Return the lines that a graph finds on a page, and their corners [n, 4, 2] in pixels."""
    text_map = np.nan_to_num(find({PIXELS: page.finding[None]})[TEXT_MAP][0])
    height, width = page.pixels.shape[:2]
    boxes = find_boxes(text_map, width, height)
    return [cut(page.pixels, box)[0] for box in boxes], boxes


def _half_turn(line: Pixels) -> Pixels:
    return np.ascontiguousarray(line[::-1, ::-1])


def _text(read: Run, reader: Reader, lines: Sequence[Pixels]) -> str:
    texts = []
    for line in lines:
        outputs = read({PIXELS: for_reading(line, turned=False)[None]})
        texts.append(ctc.read(outputs[CHARACTERS][0], outputs[CONFIDENCES][0], reader.alphabet)[0])
    return " ".join(texts)


def _upright(boxes: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Found:
    """Return the upright boxes around corners [n, 4, 2]."""
    upright = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=1) if len(boxes) else np.zeros((0, 4))
    return Found(np.asarray(upright, np.float32), np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int32))
