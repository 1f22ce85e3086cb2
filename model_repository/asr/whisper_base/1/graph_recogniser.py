"""Whisper as two plain graphs: windows and their rows in, readings out. Knows nothing of Triton and of no engine.

The loop over tokens is here, in NumPy; sound and past stay where the engine keeps them. Rows that can be decoded
together are one batch, and each window is encoded once.
"""

from collections import defaultdict

import numpy as np

from .alignment import begins
from .logit_rules import LogitRules
from .reading import ENCODER_RATE, SHORTEST, Reading
from .search import BeamSearch, Sampling

CAPACITIES = (64, 128, 256, 448)
"""Lengths of the buffer of the past, so that an engine with fixed shapes has few of them."""
ALIGNED_AT_ONCE = 32
"""Tokens whose logits are held at the same time when times are found."""


class GraphRecogniser:
    """Two graphs with their weights; not for several threads at once."""

    def __init__(self, graphs, special):
        """`graphs`: see graphs.py."""
        self.graphs, self.special = graphs, special

    def read(self, mel, rows, is_wanted):
        """Return the readings of `rows` of the windows `mel` [rows, 80, frames].

        `is_wanted(number)` says, before each batch, whether anybody still waits for that row; others are left out and
        have an empty reading.
        """
        readings = [Reading() for _ in rows]
        groups = defaultdict(list)
        for number, row in enumerate(rows):
            if not row.detect_language:
                groups[row.computed_with].append(number)
            elif self.special.language_ids:
                groups[None].append(number)
        for key, group in groups.items():
            numbers = [number for number in group if is_wanted(number)]
            for start in range(0, len(numbers), self.graphs.most_windows):
                part = numbers[start : start + self.graphs.most_windows]
                batch = _Batch(self, mel[part])
                taken = [readings[number] for number in part]
                if key is None:
                    batch.detect(taken)
                else:
                    batch.decode([rows[number] for number in part], taken)
        return readings


class _Batch:
    """Windows that are decoded together, on their own sound; surplus windows of a fixed shape repeat the last one."""

    def __init__(self, recogniser, mel):
        self.graphs, self.special = recogniser.graphs, recogniser.special
        self.windows = self.graphs.windows(len(mel))
        frames = self.graphs.frames(max(mel.shape[2], SHORTEST))
        fitted = np.empty((self.windows, mel.shape[1], frames), np.float32)
        fitted[: len(mel), :, : mel.shape[2]] = mel
        fitted[: len(mel), :, mel.shape[2] :] = mel.min(axis=(1, 2), keepdims=True)
        fitted[len(mel) :] = fitted[len(mel) - 1]
        self.sound = self.graphs.encode(fitted)

    def detect(self, readings):
        past = self.graphs.past(self.sound, self.windows, CAPACITIES[0])
        logits, _ = past.step(self._tokens([(self.special.start,)] * len(readings)), 0, [0])
        for reading, languages in zip(readings, logits[:, 0, list(self.special.language_ids)], strict=False):
            reading.languages = _softmax(languages).tolist()

    def decode(self, rows, readings):
        first = rows[0]
        prompts = self._tokens([row.prompt for row in rows])
        past = self.graphs.past(self.sound, self.windows, _capacity(prompts.shape[1] + first.max_new_tokens))
        logits, _ = past.step(prompts, 0, [first.prompt.index(self.special.start), prompts.shape[1] - 1])
        no_speech = _softmax(logits[:, 0])[:, self.special.no_speech]
        search = self._search(first)
        self._advance(search, past, logits[:, 1], prompts.shape[1], first)
        for number, reading in enumerate(readings):
            reading.texts, reading.scores = search.found(number)
            reading.no_speech = float(no_speech[number])
        if any(row.word_times for row in rows):
            self._align(rows, readings)

    def _search(self, row):
        if row.temperature:
            return Sampling(self.windows, row.alternatives, self.special.end_of_text, row.temperature)
        width = max(row.beam_size, row.alternatives)
        if width == 1:
            return Sampling(self.windows, 1, self.special.end_of_text, 0.0)
        return BeamSearch(self.windows, width, self.special.end_of_text, row.alternatives)

    def _advance(self, search, past, logits, position, row):
        """Let `search` find texts, `logits` [windows, vocabulary] being those of their first token."""
        rules = LogitRules(self.special, row.timestamps)
        logits = np.repeat(logits, search.width, axis=0)
        for step in range(row.max_new_tokens):
            log_probabilities = rules.log_probabilities(logits, search.texts)
            parents, goes_on = search.advance(log_probabilities, step + 1 == row.max_new_tokens)
            if not goes_on:
                return
            if not step:
                parents = parents // search.width  # the prompt has one row for a window
            if step + 1 < row.max_new_tokens:
                logits, _ = past.step(search.texts[:, -1:], position + step, [0], parents)
                logits = logits[:, 0]

    def _align(self, rows, readings):
        """Find times and probabilities of the words of rows that ask for them, with the text known."""
        words = [self._words(reading) if row.word_times else [] for row, reading in zip(rows, readings, strict=True)]
        if not any(words):
            return
        first = len(rows[0].start)
        tokens = self._tokens(
            [(*row.start, self.special.no_timestamps, *text) for row, text in zip(rows, words, strict=True)],
            ending=True,
        )
        past = self.graphs.past(self.sound, self.windows, _capacity(tokens.shape[1]))
        scores, probabilities = [], []
        for start in range(0, tokens.shape[1], ALIGNED_AT_ONCE):
            part = tokens[:, start : start + ALIGNED_AT_ONCE]
            logits, part_scores = past.step(part, start, range(part.shape[1]), with_scores=True)
            following = tokens[:, start + 1 : start + 1 + part.shape[1]]
            scores.append(part_scores)
            probabilities.append(self._probabilities(logits, following))
        scores, probabilities = np.concatenate(scores, axis=2), np.concatenate(probabilities, axis=1)
        for number, (row, text) in enumerate(zip(rows, words, strict=True)):
            if text:
                positions = max(1, max(row.frames, SHORTEST) // 2)
                seen = scores[number, :, : first + len(text) + 2, :positions].astype(np.float32)
                readings[number].token_times = (begins(seen, first) / ENCODER_RATE).tolist()
                readings[number].token_probabilities = probabilities[number, first : first + len(text)].tolist()

    def _probabilities(self, logits, following):
        """Return the probability of the `following` tokens [windows, n] among all that are text; 0 for others."""
        logits = logits[:, : following.shape[1], : self.special.end_of_text]
        shares = _softmax(logits)
        is_text = following < self.special.end_of_text
        chosen = np.take_along_axis(shares, np.where(is_text, following, 0)[:, :, None], axis=2)[:, :, 0]
        return np.where(is_text, chosen, 0.0)

    def _words(self, reading):
        """Return the tokens of the best text, without time stamps."""
        return [token for token in reading.texts[0] if token < self.special.end_of_text] if reading.texts else []

    def _tokens(self, lists, *, ending=False):
        """Return int32 [windows, longest], shorter rows (and with `ending` all) ended by the end of the text."""
        longest = max(map(len, lists)) + ending
        tokens = np.full((self.windows, longest), self.special.end_of_text, np.int32)
        for row, ids in zip(tokens, lists, strict=False):
            row[: len(ids)] = ids
        return tokens


def _capacity(tokens):
    return next(capacity for capacity in CAPACITIES if capacity >= tokens)


def _softmax(logits):
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)
