"""The rows of a batch: one window each, with its own options, and what a raw client may send. No engine, no Triton."""

from dataclasses import dataclass

import numpy as np

MOST_FRAMES = 3000
POSITIONS = 448
"""Of the decoder, for prompt and text together."""
ADDED_FOR_TIMES = 2
"""Tokens that finding times puts around the text."""
MOST_VALUE = 100.0
"""Log-mel of real sound is between -2 and 2; the engine's arithmetic overflows on huge values."""
GREEDY_BELOW = 1e-3
"""A lower temperature is greedy: the engine would divide by next to nothing."""
NO_TOKEN = -1
RANGES = {
    "beam_size": (1, 10),
    "alternatives": (1, 5),
    "temperature": (0, 1),
    "max_new_tokens": (1, POSITIONS - 1),
    "word_times": (0, 1),
    "detect_language": (0, 1),
}
OPTIONS = tuple(RANGES)


class InvalidRequestError(Exception):
    """A request that the engine must not see; one line that names the tensor."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one window is read."""

    frames: int
    """Frames of sound; those behind them are padding."""
    prompt: tuple[int, ...]
    start: tuple[int, ...]
    """The special tokens of the prompt from <|startoftranscript|> on, without <|notimestamps|>."""
    timestamps: bool
    beam_size: int
    alternatives: int
    temperature: float
    max_new_tokens: int
    word_times: bool
    detect_language: bool

    @property
    def computed_with(self):
        """Rows that have this in common can be decoded in one call of the engine."""
        before = self.prompt.index(self.start[0])
        shape = (len(self.prompt), before, len(self.start), self.timestamps)
        return *shape, self.beam_size, self.alternatives, self.temperature, self.max_new_tokens


def parse_rows(tensors, special):
    """Return the rows of a request from its `tensors` by name. InvalidRequestError names the tensor that is wrong."""
    mel = tensors["mel"]
    _check_mel(mel)
    columns = {name: _column(name, tensors[name]) for name in OPTIONS}
    return [
        _row(
            int(tensors["frames"][number, 0]),
            mel.shape[2],
            tensors["prompt"][number].tolist(),
            {name: column[number] for name, column in columns.items()},
            special,
        )
        for number in range(len(mel))
    ]


def _check_mel(mel):
    if not 1 <= mel.shape[2] <= MOST_FRAMES:
        raise InvalidRequestError(f"mel: {mel.shape[2]} frames are not between 1 and {MOST_FRAMES}")
    if not np.isfinite(mel).all() or np.abs(mel).max() > MOST_VALUE:
        raise InvalidRequestError(f"mel: values must be between {-MOST_VALUE:g} and {MOST_VALUE:g}")


def _column(name, values):
    """Return the values [rows] of an option that has one number for each row [rows, 1]."""
    least, most = RANGES[name]
    column = values[:, 0]
    if not ((column >= least) & (column <= most)).all():  # also what is not a number
        raise InvalidRequestError(f"{name}: values must be between {least} and {most}")
    return column.tolist()


def _row(frames, length, prompt, options, special):
    if not 1 <= frames <= length:
        raise InvalidRequestError(f"frames: {frames} is not between 1 and the {length} of mel")
    flags = {name: bool(options.pop(name)) for name in ("word_times", "detect_language")}
    ids = _without_padding(prompt, special)
    if special.start not in ids and not flags["detect_language"]:
        raise InvalidRequestError(f"prompt: token {special.start}, <|startoftranscript|>, is missing")
    start = _start(ids, special)
    _check_room(len(ids), len(start), options["max_new_tokens"], flags)
    temperature = options.pop("temperature")
    return Row(
        frames,
        ids,
        start,
        timestamps=special.no_timestamps not in ids,
        temperature=temperature if temperature >= GREEDY_BELOW else 0.0,
        **options,
        **flags,
    )


def _without_padding(prompt, special):
    length = prompt.index(NO_TOKEN) if NO_TOKEN in prompt else len(prompt)
    if any(token != NO_TOKEN for token in prompt[length:]):
        raise InvalidRequestError(f"prompt: {NO_TOKEN} is only for padding at the end")
    if not all(0 <= token < special.vocabulary_size for token in prompt[:length]):
        raise InvalidRequestError(f"prompt: values must be between 0 and {special.vocabulary_size - 1}")
    return tuple(prompt[:length])


def _start(ids, special):
    """Return <|startoftranscript|> and what follows; the engine would force other tokens into the text."""
    if special.start not in ids:
        return ()
    first = ids.index(special.start)
    if not all(special.start < token <= special.no_timestamps for token in ids[first + 1 :]):
        raise InvalidRequestError(f"prompt: only language, task and <|notimestamps|> may follow token {special.start}")
    return tuple(token for token in ids[first:] if token != special.no_timestamps)


def _check_room(prompt, start, new_tokens, flags):
    if flags["detect_language"]:
        return
    if prompt + new_tokens > POSITIONS:
        raise InvalidRequestError(
            f"max_new_tokens: {new_tokens} and {prompt} of the prompt are more than the {POSITIONS} that fit"
        )
    if flags["word_times"] and start + new_tokens + ADDED_FOR_TIMES > POSITIONS:
        raise InvalidRequestError(
            f"max_new_tokens: {new_tokens} are too many for word_times; at most {POSITIONS - start - ADDED_FOR_TIMES}"
        )
