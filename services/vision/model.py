"""The graphs in Triton. The only file of the service that knows tensor names, shapes and dtypes.

Every graph takes `pixels`: uint8 RGB [batch, height, width, 3]; scaling and layout are part of the graph.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.contract import Contract, Tensor, check_config
from services.common.manifest import Model
from services.common.profiles import is_quantised
from services.common.server import StartupError
from services.common.triton import TritonClient, model_config_pb2
from services.vision.meter import Meter

PIXELS = "pixels"
LOGITS = "logits"
BOXES, SCORES, CLASSES = "boxes", "scores", "classes"
TEXT_MAP = "text_map"
ROTATED = "probabilities"
CHARACTERS, CONFIDENCES = "characters", "confidences"
HEATMAP, SCALE, OFFSET, LANDMARKS = "heatmap", "scale", "offset", "landmarks"

SELF_TEST_DISTANCE = 0.02
"""Relative to the length of the expected numbers as one vector; half precision stays below it."""
SELF_TEST_AGREEMENT = 0.95
QUANTISED_COSINE = 0.5
"""Of graphs of few bits only the direction of that vector is looked at. How near they are to the original is for the
accuracy gate that they passed; what is wrong with a runtime (empty tensors, zeros, another graph) still shows."""

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Outputs = Mapping[str, NDArray[Any]]

TEXT_LINE_HEIGHT = 48
ROTATION_WIDTH = 192
"""Width of a line for the graph that tells whether it is upside down."""
LINE_PADDING = 127
"""The uint8 value next to the zero that the original pipeline pads scaled lines with."""


def contracts(model: Model) -> dict[str, Contract]:
    """Return the contracts of the model's graphs by Triton model name. The batch dimension is left out.

    classify      pixels [size, size, 3] -> logits [labels]
    detect        pixels [size, size, 3] -> the best candidates before NMS: boxes [candidates, 4] as y_min, x_min,
                  y_max, x_max of 0..1, scores [candidates] best first, classes [candidates], positions in labels.txt
    read_text     _det: pixels [height, width, 3], multiples of 32 -> text_map [height, width], probability of text
                  _cls: pixels [48, 192, 3] -> probabilities [2] that a line is upright, or upside down
                  _rec: pixels [48, width, 3] -> for every step the most likely entry of characters.txt (0 is blank)
                  and its probability: characters [steps], confidences [steps]
    detect_faces  pixels [height, width, 3], multiples of 32 -> on a grid of a quarter of that size: heatmap [h, w],
                  scale [2, h, w], offset [2, h, w], landmarks [10, h, w]
    """
    facts, name = model.vision, model.triton_name
    assert facts is not None  # noqa: S101  # the manifest checks it
    if facts.task in ("classify", "detect"):
        assert facts.input_size is not None and facts.labels is not None  # noqa: S101
        pixels = {PIXELS: Tensor("UINT8", (facts.input_size, facts.input_size, 3))}
        if facts.task == "classify":
            return {name: Contract(pixels, {LOGITS: Tensor("FP32", (facts.labels,))})}
        found = {BOXES: Tensor("FP32", (-1, 4)), SCORES: Tensor("FP32", (-1,)), CLASSES: Tensor("INT32", (-1,))}
        return {name: Contract(pixels, found)}
    any_size = {PIXELS: Tensor("UINT8", (-1, -1, 3))}
    if facts.task == "detect_faces":
        grid = {
            HEATMAP: Tensor("FP32", (-1, -1)),
            SCALE: Tensor("FP32", (2, -1, -1)),
            OFFSET: Tensor("FP32", (2, -1, -1)),
            LANDMARKS: Tensor("FP32", (10, -1, -1)),
        }
        return {name: Contract(any_size, grid)}
    rotation = {PIXELS: Tensor("UINT8", (TEXT_LINE_HEIGHT, ROTATION_WIDTH, 3))}
    line = {PIXELS: Tensor("UINT8", (TEXT_LINE_HEIGHT, -1, 3))}
    steps = {CHARACTERS: Tensor("INT32", (-1,)), CONFIDENCES: Tensor("FP32", (-1,))}
    return {
        f"{name}_det": Contract(any_size, {TEXT_MAP: Tensor("FP32", (-1, -1))}),
        f"{name}_cls": Contract(rotation, {ROTATED: Tensor("FP32", (2,))}),
        f"{name}_rec": Contract(line, steps),
    }


class Graph:
    """One graph in Triton: pictures of one size in, arrays by name out."""

    def __init__(
        self,
        triton: TritonClient,
        config: model_config_pb2.ModelConfig,
        contract: Contract,
        timeout: float,
        meter: Meter,
    ) -> None:
        """`timeout` in seconds bounds one batch. Raises StartupError when `config` breaks the contract."""
        check_config(config, contract)
        self.name, self.max_batch = config.name, max(1, config.max_batch_size)
        self.weight = 0.0
        """Slot-seconds for each pixel of the input, measured by `warm_up`."""
        self._triton, self._outputs, self._timeout, self._meter = triton, list(contract.outputs), timeout, meter
        self._difference = _turned if is_quantised(config) else _difference

    async def run(self, pixels: Pixels) -> Outputs:
        """Return the outputs, first dimension batch, for `pixels` [batch, height, width, 3]."""
        with self._meter.working():
            return await self._triton.infer(self.name, {PIXELS: pixels}, self._outputs, self._timeout)

    async def prove(self, selftest: Path) -> None:
        """Run the known input of the export (an .npz with in:pixels and out:<name>) and compare.

        Raises StartupError when an output is off: a wrong NumPy, say, makes Triton return empty tensors silently.
        """
        with np.load(selftest) as samples:
            outputs = await self.run(samples[f"in:{PIXELS}"])
            for name, found in outputs.items():
                if fault := self._difference(found, samples[f"out:{name}"]):
                    raise StartupError(f"self-test: '{name}' of '{self.name}' is off ({fault})")

    async def warm_up(self, shape: tuple[int, int, int], slots: int) -> None:
        """Run pictures of `shape` (batch, height, width) on every slot and learn the weight.

        The first round is not counted: engines allocate their memory in it.
        """
        pixels = np.full((*shape, 3), LINE_PADDING, dtype=np.uint8)
        for _ in range(2):
            began = time.monotonic()
            await asyncio.gather(*(self.run(pixels) for _ in range(slots)))
            self.weight = (time.monotonic() - began) / (pixels.size / 3)


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> str:
    """Return what is off, or nothing. Numbers may differ a little: graphs run in other precisions too."""
    if found.shape != expected.shape:
        return f"shape {found.shape}, not {expected.shape}"
    if found.dtype.kind != "f":
        agreement = float((found == expected).mean())
        return "" if agreement >= SELF_TEST_AGREEMENT else f"{agreement:.1%} of the values agree"
    apart, length = np.linalg.norm(found - expected.astype(np.float64)), np.linalg.norm(expected.astype(np.float64))
    distance = float(apart) / max(float(length), 1e-12)
    return "" if distance <= SELF_TEST_DISTANCE else f"relative distance {distance:.3g}"


def _turned(found: NDArray[Any], expected: NDArray[Any]) -> str:
    """Return what is off with the outputs of a graph of few bits, or nothing. Whole numbers pick among near equals."""
    if found.shape != expected.shape:
        return f"shape {found.shape}, not {expected.shape}"
    if found.dtype.kind != "f":
        return ""
    one, other = found.astype(np.float64), expected.astype(np.float64)
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    cosine = float((one * other).sum()) / max(lengths, 1e-12)
    return "" if cosine >= QUANTISED_COSINE else f"cosine {cosine:.3g}"


async def logits(graph: Graph, pictures: Sequence[Pixels]) -> list[Floats]:
    """Return the logits [labels] of pictures [size, size, 3]."""
    return list((await graph.run(np.stack(pictures)))[LOGITS])


async def candidates(graph: Graph, pictures: Sequence[Pixels]) -> list[tuple[Floats, Floats, NDArray[np.int32]]]:
    """Return boxes [n, 4], scores [n] and classes [n] before NMS of pictures [size, size, 3]."""
    outputs = await graph.run(np.stack(pictures))
    return list(zip(outputs[BOXES], outputs[SCORES], outputs[CLASSES], strict=True))


async def text_maps(graph: Graph, pages: Sequence[Pixels]) -> list[Floats]:
    """Return the probability of text for every pixel of pages of one size, [height, width, 3]."""
    return list((await graph.run(np.stack(pages)))[TEXT_MAP])


async def upside_down(graph: Graph, lines: Sequence[Pixels]) -> list[float]:
    """Return the probability that lines [48, 192, 3] are upside down."""
    return [float(row[1]) for row in (await graph.run(np.stack(lines)))[ROTATED]]


async def characters(graph: Graph, lines: Sequence[Pixels]) -> list[tuple[NDArray[np.int32], Floats]]:
    """Return the characters [steps] and confidences [steps] of lines [48, width, 3], padded to the longest."""
    longest = max(line.shape[1] for line in lines)
    pixels = np.full((len(lines), TEXT_LINE_HEIGHT, longest, 3), LINE_PADDING, dtype=np.uint8)
    for row, line in zip(pixels, lines, strict=True):
        row[:, : line.shape[1]] = line
    outputs = await graph.run(pixels)
    return list(zip(outputs[CHARACTERS], outputs[CONFIDENCES], strict=True))


async def face_grids(graph: Graph, pictures: Sequence[Pixels]) -> list[tuple[Floats, Floats, Floats, Floats]]:
    """Return heatmap, scale, offset and landmarks of pictures of one size, [height, width, 3]."""
    outputs = await graph.run(np.stack(pictures))
    return list(zip(*(outputs[name] for name in (HEATMAP, SCALE, OFFSET, LANDMARKS)), strict=True))
