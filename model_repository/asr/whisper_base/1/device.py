"""Where an engine computes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """A CPU or a GPU."""

    kind: str = "cpu"
    """cpu or cuda"""
    number: int = 0
    """Of the GPU."""
    threads: int = 1
    """What a CPU computes with."""
