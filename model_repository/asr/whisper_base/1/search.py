"""From the probabilities of a token to texts: greedily, by chance or with several hypotheses. NumPy only.

Rows of a window lie side by side: row = window * width + place.
"""

import numpy as np


class Sampling:
    """One text a row, its tokens the likeliest ones, or drawn at a temperature."""

    def __init__(self, windows, width, end_of_text, temperature):
        self.width, self.end, self.temperature = width, end_of_text, temperature
        self.texts = np.empty((windows * width, 0), np.int32)
        self.sums = np.zeros(windows * width, np.float64)
        self.over = np.zeros(windows * width, bool)
        self.chance = np.random.default_rng()

    def advance(self, log_probabilities, _is_last):
        """Take a token for every row; return the rows that these go on from, and whether any does."""
        weights = log_probabilities
        if self.temperature:
            draws = self.chance.random(weights.shape, dtype=np.float32)
            weights = weights / self.temperature - np.log(-np.log(np.maximum(draws, np.finfo(np.float32).tiny)))
        tokens = np.where(self.over, self.end, weights.argmax(axis=1)).astype(np.int32)
        rows = np.arange(len(tokens))
        self.sums += np.where(self.over, 0.0, log_probabilities[rows, tokens])
        self.texts = np.column_stack([self.texts, tokens])
        self.over |= tokens == self.end
        return rows, not self.over.all()

    def found(self, window):
        """Return the texts of a window, best first, and their scores."""
        rows = range(window * self.width, (window + 1) * self.width)
        return _ranked([(self._text(row), self.sums[row]) for row in rows], self.width)

    def _text(self, row):
        text = self.texts[row].tolist()
        return text[: text.index(self.end)] if self.end in text else text


class BeamSearch:
    """`width` hypotheses of a window, until as many have ended."""

    def __init__(self, windows, width, end_of_text, wanted):
        self.width, self.end, self.wanted = width, end_of_text, wanted
        self.texts = np.empty((windows * width, 0), np.int32)
        self.sums = np.full((windows, width), -np.inf, np.float32)
        self.sums[:, 0] = 0.0  # all begin alike: one is enough
        self.ended = [[] for _ in range(windows)]
        self.over = np.zeros(windows, bool)

    def advance(self, log_probabilities, is_last):
        """Take the likeliest tokens; return the rows that the new ones go on from, and whether any does."""
        windows, width = self.sums.shape
        sums = self.sums[:, :, None] + log_probabilities.reshape(windows, width, -1)
        vocabulary = sums.shape[2]
        sums = sums.reshape(windows, -1)
        candidates = np.argpartition(-sums, 2 * width, axis=1)[:, : 2 * width]
        chosen = np.take_along_axis(sums, candidates, axis=1)
        order = np.argsort(-chosen, axis=1, kind="stable")
        candidates, chosen = np.take_along_axis(candidates, order, axis=1), np.take_along_axis(chosen, order, axis=1)
        rows = candidates // vocabulary + np.arange(windows)[:, None] * width
        tokens = (candidates % vocabulary).astype(np.int32)
        kept = np.tile(np.arange(width), (windows, 1))
        for window in np.flatnonzero(~self.over):
            self._end(
                window, list(zip(rows[window], tokens[window], chosen[window], strict=True)), kept[window], is_last
            )
        self.sums = np.take_along_axis(chosen, kept, axis=1)
        origins = np.take_along_axis(rows, kept, axis=1).ravel()
        self.texts = np.column_stack([self.texts[origins], np.take_along_axis(tokens, kept, axis=1).ravel()])
        return origins, not self.over.all()

    def _end(self, window, candidates, kept, is_last):
        """Set aside hypotheses that have ended, and let others take their places in `kept`."""
        others = (place for place in range(self.width, 2 * self.width) if candidates[place][1] != self.end)
        for place, (row, token, total) in enumerate(candidates[: self.width]):
            if token == self.end or is_last:
                text = [*self.texts[row].tolist(), *([] if token == self.end else [int(token)])]
                self.ended[window].append((text, float(total)))
                kept[place] = next(others, place)
        self.over[window] = is_last or len(self.ended[window]) >= self.width

    def found(self, window):
        """Return the texts of a window, best first, and their scores."""
        return _ranked(self.ended[window], self.wanted)


def _ranked(ended, wanted):
    """Return the `wanted` best of texts with the sums of their log-probabilities, and their means with the end."""
    best = sorted(ended, key=lambda pair: -pair[1] / len(pair[0]) if pair[0] else np.inf)[:wanted]
    scored = sorted(((total / (len(text) + 1), text) for text, total in best), key=lambda pair: -pair[0])
    return [text for _, text in scored], [float(score) for score, _ in scored]
