"""Which tokens may come next, as Whisper's authors have it, for all rows of a batch at once. NumPy only.

Radford et al., 2022, arXiv:2212.04356, section 4.5: a text begins with a time stamp of up to a second, time stamps come
in pairs and never go back, and one comes where all of them together are likelier than any other token.
"""

import numpy as np

LATEST_BEGIN = 50
"""Steps of 20 ms: the highest time stamp that a text may begin with."""


class LogitRules:
    """The rules of one model, with time stamps or without."""

    def __init__(self, special, timestamps):
        self.special, self.timestamps = special, timestamps
        self.first_time = special.no_timestamps + 1
        self.never = np.array([*special.suppressed, *([special.no_timestamps] if timestamps else [])])
        self.not_first = np.array(special.suppressed_first)

    def log_probabilities(self, logits, texts):
        """Return log-probabilities [rows, vocabulary] of what may come after texts [rows, n]; -inf of what may not.

        `logits` [rows, vocabulary] is overwritten.
        """
        logits[:, self.never] = -np.inf
        if not texts.shape[1]:
            logits[:, self.not_first] = -np.inf
        if self.timestamps:
            self._keep_times(logits, texts)
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    def _keep_times(self, logits, texts):
        first = self.first_time
        if not texts.shape[1]:
            logits[:, :first] = -np.inf
            logits[:, first + LATEST_BEGIN + 1 :] = -np.inf
            return
        is_time = texts >= first
        last, before = is_time[:, -1], is_time[:, -2:][:, 0]
        logits[last & before, first:] = -np.inf
        logits[last & ~before, : self.special.end_of_text] = -np.inf
        latest = texts.max(axis=1)  # time stamps are the highest ids and only rise
        # that which ends a segment comes after the one which began it; only the next segment may begin with the same
        earliest = np.where(last & ~before, latest, latest + 1)[:, None]
        times = logits[:, first:]
        times[np.arange(first, first + times.shape[1]) < earliest] = -np.inf
        highest = logits.max(axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            all_times = np.log(np.exp(times - highest).sum(axis=1)) + highest[:, 0]
        logits[(all_times > logits[:, :first].max(axis=1)) & ~(last & before), :first] = -np.inf
