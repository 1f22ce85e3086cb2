"""What a recogniser needs of an engine that executes its two graphs: see tools/export/whisper_graphs.py for both."""

from typing import Protocol

ENCODER, DECODER = "encoder", "decoder"
INPUTS = ("tokens", "positions", "wanted", "parents")
LOGITS, SCORES = "logits", "scores"


class Past(Protocol):
    """What some windows have said so far, kept by the engine."""

    def step(self, tokens, position, wanted, parents=None, *, with_scores=False):
        """Say tokens [rows, n] after those before `position`; rows are the same number for each window.

        Row i goes on from row parents[i] of the step before, by default its own. Returns the logits, float32
        [rows, answers, vocabulary], of the `wanted` among the n tokens, and with `with_scores` those of the attention
        to the sound, [windows, heads, rows of a window * n, positions], None otherwise.
        """


class Graphs(Protocol):
    """Two graphs in an engine."""

    most_windows: int
    """Windows that may be encoded together."""

    def windows(self, count):
        """Return how many windows are computed where `count` are there: more where shapes are fixed."""

    def frames(self, count):
        """Return how many frames a window of `count` is padded to."""

    def encode(self, mel):
        """Return the sound of windows mel [windows, 80, frames], kept by the engine."""

    def past(self, sound, windows, capacity):
        """Return a Past of nothing, with room for `capacity` tokens."""
