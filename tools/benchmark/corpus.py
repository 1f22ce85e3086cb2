"""Texts of mixed lengths, the same in every run: what searches and documents look like to an embedder."""

import random

_TEXT = (
    "the of and to in is that it was for on are as with his they at be this from have or by one had not but what "
    "all were when we there can an your which their said if do will each about how up out them then she many some "
    "so these would other into has more her two like him see time could no make than first been its who now people "
    "my made over did down only way find use may water long little very after words called just where most know "
    "harbour fleet sail engine captain weather cargo signal chart compass anchor storm island voyage merchant "
    "lighthouse current northern"
)
WORDS = _TEXT.split()


def mixed_texts(count: int, seed: int = 7) -> list[str]:
    """Return `count` texts of 3 to 180 words, log-normally distributed: 29 tokens in the mean."""
    generator = random.Random(seed)  # noqa: S311  # reproducible, not secret
    lengths = (min(180, max(3, round(generator.lognormvariate(3.05, 0.7)))) for _ in range(count))
    return [" ".join(generator.choices(WORDS, k=length)) for length in lengths]
