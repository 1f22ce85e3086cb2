"""Lint of a graph before anything is built from it: faults that exporters make silently and builders report badly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a graph."""

    rule: str
    """Short name of the rule, say "unique-names"."""
    message: str
    """One line that names the tensor or the node."""


def lint(path: Path) -> tuple[Fault, ...]:
    """Return what is wrong with an ONNX file; nothing when it can be converted and built."""
    raise NotImplementedError


def check(path: Path) -> None:
    """Problem with the first fault of a graph, and how many there are."""
    raise NotImplementedError
