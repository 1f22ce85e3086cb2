"""What gives away a text that nobody has said. Whisper invents words for noise, and repeats itself when it is lost."""

from services.asr.model import Reading
from services.asr.passage import compression_ratio

MOST_COMPRESSION, LEAST_LOGPROB, MOST_NO_SPEECH = 2.4, -1.0, 0.6
"""Whisper's own limits."""
_SURE_NO_SPEECH = 0.75
"""Real speech stays below 0.5 even in noise as loud as itself; what was invented for silence, noise and music was above
this, if never likely. Measured."""
LATEST = 0.5
"""Seconds before the end of the sound after which no segment begins."""


def silent(reading: Reading) -> bool:
    """Return whether the model itself thinks that nobody speaks."""
    score = reading.scores[0]
    sure = reading.no_speech > _SURE_NO_SPEECH and score < LEAST_LOGPROB / 2
    return sure or (reading.no_speech > MOST_NO_SPEECH and score < LEAST_LOGPROB)


def fault(text: str, score: float) -> str | None:
    """Return what looks wrong about a text with this mean log-probability: `repetition`, `doubt`, or None."""
    if repetitive(text):
        return "repetition"
    return "doubt" if score < LEAST_LOGPROB else None


def repetitive(text: str) -> bool:
    """Return whether a text says the same over and over."""
    return compression_ratio(text) > MOST_COMPRESSION


def invented(text: str, reading: Reading) -> bool:
    """Return whether a text that looks wrong at every temperature is to be dropped."""
    return reading.no_speech > MOST_NO_SPEECH / 2 or (repetitive(text) and reading.scores[0] < LEAST_LOGPROB / 2)


def spoken(text: str) -> bool:
    """Return whether a text has anything that can be said."""
    return any(letter.isalnum() for letter in text)
