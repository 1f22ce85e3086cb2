"""Voice activity detection: how likely there is speech, frame by frame. Knows nothing of utterances and windows.

The model is Silero's (https://github.com/snakers4/silero-vad), as the faster-whisper package ships it.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from faster_whisper.utils import get_assets_path
from numpy.typing import NDArray

Floats = NDArray[np.float32]
FRAME = 512
"""Samples of a frame, at 16 kHz: 32 ms."""
_CONTEXT = 64  # samples of the frame before that the model sees as well
_MOST_FRAMES = 128  # in one run: 4 s; longer runs take more memory and no less time
_MODEL = "silero_vad_v6.onnx"


class Vad:
    """The model. One for the process; any number of threads may use it at the same time."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        path = Path(get_assets_path()) / _MODEL
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def stream(self) -> "VadStream":
        """Return a detector for audio that begins now."""
        return VadStream(self._session)


class VadStream:
    """The detector of one channel. What comes in pieces gives the same as what comes at once."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._state = (np.zeros((1, 1, 128), np.float32), np.zeros((1, 1, 128), np.float32))
        self._context = np.zeros(_CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: Floats) -> Floats:
        """Return the probability of speech in each frame that is complete now, [k].

        `samples` [n] are the next ones at 16 kHz, -1 to 1. What is left over of a frame is kept for the next call.
        """
        samples = np.concatenate([self._rest, samples])
        frames = len(samples) // FRAME
        self._rest = samples[frames * FRAME :].copy()
        parts = [
            self._run(samples[first * FRAME : min(first + _MOST_FRAMES, frames) * FRAME])
            for first in range(0, frames, _MOST_FRAMES)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def finish(self) -> Floats:
        """Return the probability of the last frame, filled up with silence; empty where nothing is left over."""
        return self.feed(np.zeros(FRAME - len(self._rest), np.float32)) if len(self._rest) else self._rest

    def _run(self, samples: Floats) -> Floats:
        rows = samples.reshape(-1, FRAME)
        contexts = np.vstack([self._context, rows[:-1, -_CONTEXT:]])
        h, c = self._state
        inputs = {"input": np.hstack([contexts, rows]), "h": h, "c": c}
        probabilities, h, c = self._session.run(None, inputs)
        self._state, self._context = (h, c), rows[-1, -_CONTEXT:].copy()
        return np.asarray(probabilities, np.float32).reshape(-1)
