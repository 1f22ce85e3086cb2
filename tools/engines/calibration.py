"""Calibration data: real inputs of a subject in one file, named by a digest of what is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tools.engines.subjects import Tensors


def digest(batches: Iterable[Tensors]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of batches in their order."""
    total = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            rows = np.ascontiguousarray(batch[name])
            total.update(json.dumps([name, rows.dtype.str, list(rows.shape)]).encode())
            total.update(rows.tobytes())
    return total.hexdigest()


def save(batches: Iterable[Tensors], path: Path) -> None:
    """Write batches to an .npz file."""
    np.savez(path, **{f"{number}:{name}": rows for number, batch in enumerate(batches) for name, rows in batch.items()})


def load(path: Path) -> Iterator[Tensors]:
    """Yield the batches of a file that `save` wrote, in their order."""
    with np.load(path) as rows:
        for number in range(1 + max(int(key.partition(":")[0]) for key in rows.files)):
            names = [key.partition(":")[2] for key in rows.files if key.startswith(f"{number}:")]
            yield {name: rows[f"{number}:{name}"] for name in names}
