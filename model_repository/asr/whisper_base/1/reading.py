"""What is read in a window, whichever engine reads it."""

from dataclasses import dataclass, field

ENCODER_RATE = 50
"""Positions of the encoder a second, two frames each."""
SHORTEST = 10
"""Frames; no times can be found in less."""


@dataclass(slots=True)
class Reading:
    """What a row asked for; the rest is empty."""

    texts: list[list[int]] = field(default_factory=list)
    """Best first, without the end of the text."""
    scores: list[float] = field(default_factory=list)
    """Mean log-probability of each text's tokens and its end."""
    no_speech: float = 0.0
    token_times: list[float] = field(default_factory=list)
    token_probabilities: list[float] = field(default_factory=list)
    languages: list[float] = field(default_factory=list)
