"""Logits to log-probabilities of given tokens and of the best ones. Knows neither Triton nor the engine."""

import numpy as np

ALTERNATIVES = 20


class Scores:
    """The result for one sequence; nothing stands before its first token, so that has log-probability 0.

    The alternatives in the first token's place are not known: ids 0, log-probabilities 0.
    """

    def __init__(self, ids):
        self.logprobs = np.zeros(len(ids), dtype=np.float32)
        self.top_ids = np.zeros((len(ids), ALTERNATIVES), dtype=np.int32)
        self.top_logprobs = np.zeros((len(ids), ALTERNATIVES), dtype=np.float32)

    def add(self, start, logprobs, top_ids, top_logprobs):
        """Take the scores of the tokens that follow those from `start` on."""
        places = slice(start + 1, start + 1 + len(logprobs))
        self.logprobs[places] = logprobs
        count = len(self.top_ids[places])
        self.top_ids[places], self.top_logprobs[places] = top_ids[:count], top_logprobs[:count]


def next_token_scores(logits, following):
    """Return log-probabilities of the tokens that follow, and ids and log-probabilities of the best, best first.

    logits [tokens, vocabulary]; following [tokens], or one less where the sequence ends.
    """
    best = np.argpartition(logits, -ALTERNATIVES, axis=-1)[:, -ALTERNATIVES:]
    values = np.take_along_axis(logits, best, axis=-1)
    order = np.argsort(-values, axis=-1, kind="stable")
    best, values = (np.take_along_axis(array, order, axis=-1) for array in (best, values))
    most = values[:, :1]
    total = most + np.log(np.exp(logits - most).sum(axis=-1, keepdims=True))
    chosen = logits[np.arange(len(following)), following] - total[: len(following), 0]
    return chosen, best.astype(np.int32), values - total
