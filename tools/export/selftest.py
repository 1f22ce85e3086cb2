"""Self-test of a graph: inputs and the original's outputs in one .npz, and how a runtime is held against them.

Arrays are named `in:<tensor>` and `out:<tensor>`. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]

TOLERANCE = 1e-3
"""Absolute and relative."""
MIN_EQUAL = 0.99
CHOSEN = {"boxes", "classes", "characters"}
"""Outputs that follow a choice of the largest: two values that differ in the last digit only may swap places."""


def write_selftest(path: Path, inputs: Tensors, outputs: Tensors) -> None:
    """Write inputs and the original's outputs for them."""
    named = {f"in:{name}": values for name, values in inputs.items()}
    named |= {f"out:{name}": values for name, values in outputs.items()}
    np.savez_compressed(path, **named)  # type: ignore[arg-type, unused-ignore]


def read_selftest(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return inputs and expected outputs. ValueError when the file is not a self-test."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except Exception as error:
        raise ValueError("not an .npz archive") from error
    inputs = {name.removeprefix("in:"): values for name, values in arrays.items() if name.startswith("in:")}
    outputs = {name.removeprefix("out:"): values for name, values in arrays.items() if name.startswith("out:")}
    if not inputs or not outputs or len(inputs) + len(outputs) != len(arrays):
        raise ValueError("arrays must be named in:<tensor> and out:<tensor>")
    return inputs, outputs


def difference(expected: Tensors, actual: Tensors) -> str | None:
    """Return what differs more than allowed, or None."""
    for name, wanted in expected.items():
        got = actual.get(name)
        if got is None or got.shape != wanted.shape or got.dtype != wanted.dtype:
            found = "is missing" if got is None else f"is {got.dtype} {list(got.shape)}"
            return f"{name} {found}, expected {wanted.dtype} {list(wanted.shape)}"
        close = np.isclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE)
        required = MIN_EQUAL if name in CHOSEN else 1.0
        if not close.mean() >= required:
            return f"{name} agrees in {close.mean():.2%} of its values, required are {required:.0%}"
    return None


def largest_difference(expected: Tensors, actual: Tensors) -> float:
    """Return the largest absolute difference of all outputs that follow no choice."""
    values = [np.abs(actual[name] - wanted).max() for name, wanted in expected.items() if name not in CHOSEN]
    return float(max(values))
