"""What an exporter reads from a language model's files, whatever their format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
GROUP = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes and constants of a Llama-like network."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context: int
    epsilon: float
    rope_theta: float
    rope_divisors: Array | None = None
    """What each of the head_size / 2 rotary frequencies is divided by; None: nothing."""
    rope_interleaved: bool = False
    """Whether rotary pairs are neighbours (2i, 2i + 1) in q and k, not halves (i, i + head_size / 2)."""

    def frequencies(self) -> Array:
        """Return the rotary frequencies [head_size / 2]."""
        exponents = np.arange(0, self.head_size, 2, dtype=np.float64) / self.head_size
        plain = (1.0 / self.rope_theta**exponents).astype(np.float32)
        return plain if self.rope_divisors is None else (plain / self.rope_divisors).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Grid:
    """Four-bit weights as the file has them: (values - zero) * scale, in groups of 32 along the input."""

    values: NDArray[np.uint8]
    """[out, in / 32, 32], 0 to 15."""
    scale: NDArray[np.float16]
    """[out, in / 32, 1]"""
    zero: NDArray[np.float16]
    """[out, in / 32, 1], a fraction where the file's grid does not go through 0."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Weights [out, in] in float32, and the four-bit grid they lie on where the file has one."""

    values: Array
    grid: Grid | None = None

    def rows(self, order: NDArray[np.int64]) -> Matrix:
        """Return the matrix with its rows in another order."""
        grid = self.grid
        if grid is not None:
            grid = Grid(grid.values[order], grid.scale[order], grid.zero[order])
        return Matrix(self.values[order], grid)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, and the ids with a meaning of their own."""

    tokens: Sequence[str]
    eos: int
    eos_ids: tuple[int, ...]
    """All that end an answer."""
    bos: int | None
    pad: int
    unknown: int | None
    adds_bos: bool
    """Whether a prompt without a template begins with bos."""
    chat_template: str | None


class Weights(Protocol):
    """The weights of one network, as its files have them."""

    shape: Shape

    def projection(self, layer: int, name: str) -> tuple[Matrix, Array | None]:
        """Return weights and bias of one of PROJECTIONS."""

    def norm(self, layer: int, which: str) -> Array:
        """Return the weights of the "attention" or "feed_forward" norm."""

    def final_norm(self) -> Array:
        """Return the weights of the last norm."""

    def embedding(self) -> Array:
        """Return the token embeddings [vocabulary, hidden]."""

    def head(self) -> Array | None:
        """Return the output weights [vocabulary, hidden], None when they are the embeddings."""


class Source(Weights, Protocol):
    """The files of one model."""

    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary."""

    def tokenizer(self) -> Any:
        """Return the `tokenizers.Tokenizer`."""
