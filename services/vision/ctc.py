"""Steps to text: connectionist temporal classification, read greedily (Graves et al. 2006)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLANK = 0


def read(steps: NDArray[np.int32], confidences: NDArray[np.float32], alphabet: Sequence[str]) -> tuple[str, float]:
    """Return the text and the mean probability of its characters: repeats count once, blanks separate.

    `steps` and `confidences` [steps] are the most likely entry of `alphabet` at each step and its probability.
    """
    new = np.concatenate([[True], steps[1:] != steps[:-1]])
    chosen = new & (steps != BLANK)
    if not chosen.any():
        return "", 0.0
    return "".join(alphabet[step] for step in steps[chosen]), float(confidences[chosen].mean())
