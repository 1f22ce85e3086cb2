"""The recogniser in Triton. The only file of the service that knows tensor names, shapes and dtypes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.contract import Contract, Tensor, check_config
from services.common.manifest import Model
from services.common.triton import TritonClient, model_config_pb2

MEL, FRAMES, PROMPT = "mel", "frames", "prompt"
BEAM_SIZE, ALTERNATIVES, TEMPERATURE, MAX_NEW_TOKENS = "beam_size", "alternatives", "temperature", "max_new_tokens"
WORD_TIMES, DETECT_LANGUAGE = "word_times", "detect_language"
TOKENS, SCORES, NO_SPEECH = "tokens", "scores", "no_speech"
TOKEN_TIMES, TOKEN_PROBABILITIES, LANGUAGES = "token_times", "token_probabilities", "languages"

MELS = 80
FRAMES_PER_SECOND = 100
MOST_FRAMES = 3000
MOST_PROMPT, MOST_NEW_TOKENS = 447, 448
"""Whisper's decoder has 448 positions, for prompt and text together."""
NO_TOKEN = -1

Floats = NDArray[np.float32]


def contract() -> Contract:
    """Return the contract of every recogniser. The batch dimension is left out; rows of a batch are independent.

    mel [80, n] is the log-mel spectrogram of a window of up to 30 s (Whisper's own: 16 kHz, 10 ms a frame), of which
    the first frames [1] are sound and the others padding. prompt [n] are the ids the decoder starts from, the text
    before included: [<|startofprev|>, text, <|startoftranscript|>, language, task, <|notimestamps|>], padded at the
    end with -1. beam_size 1 is greedy; temperature above 0 samples instead. alternatives is how many texts are wanted.

    tokens [alternatives, n] are the ids of the texts, time stamps included, best first, padded at the end with -1, and
    scores [alternatives] the mean logarithms of the tokens' probabilities. no_speech [1] is the probability that the
    window has no speech. With word_times 1, token_times [n + 1] are the seconds in the window at which each text token
    (no time stamps) of the best text begins, and at which the last one ends; token_probabilities [n] their
    probabilities. With detect_language 1 nothing is decoded: languages [n] are probabilities in the order of the
    model's language tokens, none for a model of English only. What was not asked for is empty, or padding where other
    rows of the batch have it: tokens, times, probabilities and languages -1, scores and no_speech 0.
    """
    number, flag = Tensor("INT32", (1,)), Tensor("UINT8", (1,))
    return Contract(
        {
            MEL: Tensor("FP32", (MELS, -1)),
            FRAMES: number,
            PROMPT: Tensor("INT32", (-1,)),
            BEAM_SIZE: number,
            ALTERNATIVES: number,
            TEMPERATURE: Tensor("FP32", (1,)),
            MAX_NEW_TOKENS: number,
            WORD_TIMES: flag,
            DETECT_LANGUAGE: flag,
        },
        {
            TOKENS: Tensor("INT32", (-1, -1)),
            SCORES: Tensor("FP32", (-1,)),
            NO_SPEECH: Tensor("FP32", (1,)),
            TOKEN_TIMES: Tensor("FP32", (-1,)),
            TOKEN_PROBABILITIES: Tensor("FP32", (-1,)),
            LANGUAGES: Tensor("FP32", (-1,)),
        },
    )


def contracts(model: Model) -> dict[str, Contract]:
    """Return the contract by Triton model name."""
    return {model.triton_name: contract()}


@dataclass(frozen=True, slots=True)
class Window:
    """Up to 30 seconds of sound and how to read them. A row of a batch."""

    mel: Floats
    """[80, frames]"""
    frames: int
    """Frames of `mel` that are sound; the others are padding."""
    prompt: Sequence[int]
    beam_size: int = 1
    alternatives: int = 1
    temperature: float = 0.0
    max_new_tokens: int = MOST_NEW_TOKENS // 2
    word_times: bool = False
    detect_language: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read in a window."""

    texts: list[list[int]]
    """Token ids with time stamps, best first."""
    scores: list[float]
    """Mean log-probability of each text's tokens."""
    no_speech: float
    token_times: Floats
    """Of the best text's n text tokens [n + 1] in seconds of the window; [0] where not asked for."""
    token_probabilities: Floats
    languages: Floats
    """Probabilities in the order of the model's language tokens; [0] where not asked for."""


class Recogniser:
    """One recogniser in Triton: windows in, readings out."""

    def __init__(self, triton: TritonClient, config: model_config_pb2.ModelConfig, timeout: float) -> None:
        """`timeout` in seconds bounds one batch. Raises StartupError when `config` breaks the contract."""
        check_config(config, contract())
        self.name, self.max_batch = config.name, max(1, config.max_batch_size)
        self.instances = max(1, sum(group.count for group in config.instance_group))
        """Batches worth sending at the same time: more would only wait in Triton."""
        self._triton, self._timeout = triton, timeout

    async def read(self, windows: Sequence[Window]) -> list[Reading]:
        """Return what is said in each window, computed as one batch. Raises ServiceError."""
        outputs = await self._triton.infer(self.name, inputs_of(windows), list(contract().outputs), self._timeout)
        return [_reading(outputs, row, window) for row, window in enumerate(windows)]


def inputs_of(windows: Sequence[Window]) -> dict[str, NDArray[np.generic]]:
    """Return the tensors of one batch, mel and prompts padded to the longest."""
    longest = max(window.mel.shape[1] for window in windows)
    mel = np.zeros((len(windows), MELS, longest), dtype=np.float32)
    prompts = np.full((len(windows), max(len(window.prompt) for window in windows)), NO_TOKEN, dtype=np.int32)
    for row, window in enumerate(windows):
        length = window.mel.shape[1]
        mel[row, :, :length] = window.mel
        mel[row, :, length:] = window.mel.min()  # silence, as log-mel has it
        prompts[row, : len(window.prompt)] = window.prompt
    column = {
        FRAMES: ("frames", np.int32),
        BEAM_SIZE: ("beam_size", np.int32),
        ALTERNATIVES: ("alternatives", np.int32),
        TEMPERATURE: ("temperature", np.float32),
        MAX_NEW_TOKENS: ("max_new_tokens", np.int32),
        WORD_TIMES: ("word_times", np.uint8),
        DETECT_LANGUAGE: ("detect_language", np.uint8),
    }
    columns = {
        name: np.array([[getattr(window, field)] for window in windows], dtype=dtype)
        for name, (field, dtype) in column.items()
    }
    return {MEL: mel, PROMPT: prompts, **columns}


def _reading(outputs: dict[str, NDArray[np.generic]], row: int, window: Window) -> Reading:
    count = 0 if window.detect_language else window.alternatives
    return Reading(
        [[int(token) for token in text if token != NO_TOKEN] for text in outputs[TOKENS][row][:count]],
        outputs[SCORES][row][:count].tolist(),
        float(outputs[NO_SPEECH][row][0]),
        _given(outputs[TOKEN_TIMES][row]),
        _given(outputs[TOKEN_PROBABILITIES][row]),
        _given(outputs[LANGUAGES][row]),
    )


def _given(values: NDArray[np.generic]) -> Floats:
    """Return the values that are no padding."""
    numbers = values.astype(np.float32)
    return numbers[numbers >= 0]
