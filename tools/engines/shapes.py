"""The optimisation profiles of every graph: the shapes a compiled engine takes and those it is tuned for.

The only place that knows them. Limits come from the graph's config.pbtxt (batch, free axes, its `max_...` parameters),
the buckets in between from here. Configurations that run an engine must list one Triton profile for each of these, and
their CUDA graphs must lie inside (`covering`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

from services.common.engines import canonical_json
from services.common.triton import model_config_pb2
from tools.cli.console import Problem

SEQUENCES = (32, 64, 128, 256, 512)
"""Bucket ends of sequence lengths in tokens."""
TUNED_BATCH = 8
"""Larger batches gain little over this one, smaller ones are bound by launches, which CUDA graphs save."""
LINE_WIDTHS = (320, 640, 1024)
"""Bucket ends of the widths of text lines in pixels; a last one takes what the configuration allows."""
LEAST_LINE_WIDTH = 32
PAGE_SIDE, TUNED_PAGE = 1024, (736, 736)
"""Pictures up to this side have a profile of their own."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The shapes of one input, batch first: the least, the one the kernels are chosen for, the greatest."""

    least: Shape
    tuned: Shape
    greatest: Shape

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether a shape lies inside."""
        inside = (low <= side <= high for low, side, high in zip(self.least, shape, self.greatest, strict=False))
        return len(shape) == len(self.least) and all(inside)


Profile = Mapping[str, Range]
"""One optimisation profile: a range for each input."""


def optimisation_profiles(config: model_config_pb2.ModelConfig) -> tuple[Profile, ...]:
    """Return the profiles of the graph that a config.pbtxt describes, in the order of their Triton numbers.

    Problem when an input has free axes that nothing bounds.
    """
    batch = max(1, config.max_batch_size)
    inputs = {tensor.name: tuple(tensor.dims) for tensor in config.input}
    boxes = _boxes(config, inputs)
    return tuple(
        {name: _range(batch, inputs[name], *box) for name in inputs} for box in boxes
    )  # every free axis of a graph is the same in all of its inputs


def covering(profiles: Sequence[Profile], shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """Return the numbers of the profiles that take these input shapes, batch first; none when no engine would."""
    return tuple(
        number
        for number, profile in enumerate(profiles)
        if profile.keys() == shapes.keys() and all(profile[name].covers(shape) for name, shape in shapes.items())
    )


def to_json(profiles: Sequence[Profile]) -> str:
    """Return profiles as canonical JSON: for each input [least, tuned, greatest]."""
    document = [{name: [one.least, one.tuned, one.greatest] for name, one in profile.items()} for profile in profiles]
    return canonical_json(document).decode()


def from_json(text: str) -> tuple[Profile, ...]:
    """Return the profiles of `to_json`."""
    document: list[dict[str, Any]] = json.loads(text)
    return tuple({name: Range(*(tuple(shape) for shape in ends)) for name, ends in one.items()} for one in document)


def greatest_elements(profiles: Sequence[Profile]) -> int:
    """Return the elements of all inputs of the largest profile: what its memory grows with."""
    return max(sum(_product(one.greatest) for one in profile.values()) for profile in profiles)


_Box = tuple[Shape, Shape, Shape]
"""Least, tuned and greatest values of the free axes."""


def _boxes(config: model_config_pb2.ModelConfig, inputs: Mapping[str, Shape]) -> list[_Box]:
    """Return what the free axes may be, one box for each profile."""
    free = {dims.count(-1) for dims in inputs.values()}
    if free == {0}:
        return [((), (), ())]
    limits = {key: int(value.string_value) for key, value in config.parameters.items() if key.startswith("max_")}
    limits["multiple_of"] = _parameter(config, "multiple_of", 1)
    if free == {1} and "max_sequence_length" in limits:
        return [((1,), (end,), (end,)) for end in _ends(SEQUENCES, limits["max_sequence_length"])]
    if free == {1} and "max_side" in limits:
        widest = limits["max_side"]
        ends = [*(width for width in LINE_WIDTHS if width < widest), widest]
        return [((LEAST_LINE_WIDTH,), (min(end, 2 * LINE_WIDTHS[-1]),), (end,)) for end in ends]
    if free == {2} and {"max_side", "max_pixels"} <= limits.keys():
        return _pictures(limits)
    raise Problem(
        f"{config.name}: nothing bounds the free axes of {', '.join(inputs)}, and an engine needs bounds",
        "set max_sequence_length, or max_side and max_pixels, among the parameters of its config.pbtxt",
    )


def _pictures(limits: Mapping[str, int]) -> list[_Box]:
    """Return a box of small pictures, the largest square, and the longest ones of either direction.

    Together they cover what the services send; a size between these that only a raw client would send is refused.
    """
    step, longest = limits["multiple_of"], limits["max_side"]
    square = _floor(min(isqrt(limits["max_pixels"]), longest), step)
    across = _floor(min(limits["max_pixels"] // longest, longest), step)
    least = (step, step)
    small = min(PAGE_SIDE, square)
    boxes: list[_Box] = [(least, (min(TUNED_PAGE[0], small), min(TUNED_PAGE[1], small)), (small, small))]
    if square > small:
        middle = _floor((small + square) // 2, step)
        boxes.append((least, (middle, middle), (square, square)))
    if longest > square:
        half = _floor(longest // 2, step)
        boxes.append((least, (across, half), (across, longest)))
        boxes.append((least, (half, across), (longest, across)))
    return boxes


def _range(batch: int, dims: Shape, least: Shape, tuned: Shape, greatest: Shape) -> Range:
    return Range(
        (1, *_filled(dims, least)), (min(batch, TUNED_BATCH), *_filled(dims, tuned)), (batch, *_filled(dims, greatest))
    )


def _filled(dims: Shape, free: Shape) -> Shape:
    values = iter(free)
    return tuple(next(values) if dim == -1 else dim for dim in dims)


def _ends(buckets: Sequence[int], greatest: int) -> list[int]:
    return [*(end for end in buckets if end < greatest), greatest]


def _floor(value: int, step: int) -> int:
    return max(step, value // step * step)


def _product(shape: Shape) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def _parameter(config: model_config_pb2.ModelConfig, key: str, default: int) -> int:
    return int(config.parameters[key].string_value) if key in config.parameters else default
