"""When each token is said, from what the decoder attends to while it says it. NumPy only.

The heads that follow the sound are made comparable, smoothed and averaged; the path through positions and tokens with
the highest sum is found by dynamic time warping, as Whisper's authors do it.
"""

import numpy as np

FILTER_WIDTH = 7


def begins(scores, first):
    """Return the position at which each token begins, [tokens].

    scores [heads, all tokens, positions] are those of the attention; the tokens before `first` and the last one are
    not placed, but count in the comparison.
    """
    shares = np.exp(scores - scores.max(axis=2, keepdims=True))
    shares /= shares.sum(axis=2, keepdims=True)
    deviations = shares.std(axis=1, keepdims=True)
    shares = (shares - shares.mean(axis=1, keepdims=True)) / np.maximum(deviations, np.finfo(np.float32).tiny)
    weights = _smoothed(shares).mean(axis=0)[first:-1]
    return _path(-weights.astype(np.float64))


def _smoothed(values):
    """Return the median of each value and its neighbours on the last axis; a mirror stands at both ends."""
    reach = FILTER_WIDTH // 2
    if values.shape[2] <= reach:
        return np.zeros_like(values)
    padded = np.pad(values, ((0, 0), (0, 0), (reach, reach)), mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, FILTER_WIDTH, axis=2), axis=3)


def _path(costs):
    """Return the first column of each row on the cheapest path from the first to the last cell of costs [n, m]."""
    rows, columns = costs.shape
    totals = np.full((rows + 1, columns + 1), np.inf)
    totals[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        before = np.minimum(totals[row - 1, column - 1], np.minimum(totals[row - 1, column], totals[row, column - 1]))
        totals[row, column] = costs[row - 1, column - 1] + before
    first = np.zeros(rows, int)
    row, column = rows, columns
    while row and column:
        first[row - 1] = column - 1
        both, up, left = totals[row - 1, column - 1], totals[row - 1, column], totals[row, column - 1]
        if both < up and both < left:
            row, column = row - 1, column - 1
        elif up < both and up < left:
            row -= 1
        else:
            column -= 1
    return first
