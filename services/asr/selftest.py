"""The self-test of a recogniser: a known window and what must be read in it. Also read by the tools; numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

AGREEMENT = 0.6
"""Share of the tokens that must be the same: two words may be as likely, and int8 differs between processors."""
SCORE_TOLERANCE = 0.3
"""Of a mean log-probability."""
TIME_TOLERANCE = 0.5
"""Seconds, of the end of the last word."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A window of speech and how the original, in float32, reads it greedily."""

    mel: NDArray[np.float32]
    """[80, frames], of which the first `frames` are sound."""
    frames: int
    prompt: list[int]
    tokens: list[int]
    score: float
    end: float
    """Seconds at which the last word ends."""
    language: int
    """Position of the most likely language among those of the model; -1 for a model of English only."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an .npz file. ValueError when it is not a self-test."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays: dict[str, Any] = dict(archive)
            test = cls(
                mel=arrays["mel"],
                frames=int(arrays["frames"]),
                prompt=arrays["prompt"].tolist(),
                tokens=arrays["tokens"].tolist(),
                score=float(arrays["score"]),
                end=float(arrays["end"]),
                language=int(arrays["language"]),
            )
        except Exception as error:
            raise ValueError("not an .npz archive of a window and its reading") from error
        if test.mel.ndim != 2 or not 0 < test.frames <= test.mel.shape[1] or not test.prompt or not test.tokens:
            raise ValueError("the window, the prompt or the tokens are empty")
        return test

    def write(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez_compressed(
            path,
            mel=self.mel,
            frames=self.frames,
            prompt=self.prompt,
            tokens=self.tokens,
            score=self.score,
            end=self.end,
            language=self.language,
        )

    def fault(
        self, tokens: Sequence[int], score: float, token_times: NDArray[np.float32], languages: NDArray[np.float32]
    ) -> str | None:
        """Return what differs more than allowed, or None.

        token_times [n + 1] are as the contract has them, languages [n] the probabilities, none for English only.
        """
        agreement = SequenceMatcher(None, list(tokens), self.tokens, autojunk=False).ratio()
        if agreement < AGREEMENT:
            return f"{agreement:.0%} of the tokens agree"
        if not abs(score - self.score) <= SCORE_TOLERANCE:
            return f"the score is {score:.2f}, expected {self.score:.2f}"
        if not len(token_times) or not abs(token_times[-1] - self.end) <= TIME_TOLERANCE:
            return f"the times of the words are {token_times.tolist()}, expected an end at {self.end:.2f} s"
        found = int(languages.argmax()) if len(languages) else -1
        return None if found == self.language else f"language {found}, expected {self.language}"
