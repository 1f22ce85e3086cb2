"""Whisper on CTranslate2: windows and their rows in, readings out. Knows nothing of Triton.

Every window is encoded once, whatever is asked about it, and never made longer than it is: the time of a short window
is that of its own frames. Rows that the engine can decode together are one call.
"""

from collections import defaultdict

import ctranslate2
import numpy as np

from .reading import ENCODER_RATE, SHORTEST, Reading


class Recogniser:
    """One engine with its weights; not for several threads at once."""

    def __init__(self, folder, special, device, compute_type):
        self.special = special
        self.model = ctranslate2.models.Whisper(
            str(folder),
            device=device.kind,
            device_index=device.number,
            compute_type=compute_type,
            intra_threads=device.threads,
        )

    def read(self, mel, rows, is_wanted):
        """Return the readings of `rows` of the windows `mel` [rows, 80, frames].

        `is_wanted(number)` says, before each call of the engine, whether anybody still waits for that row; others are
        left out and have an empty reading.
        """
        readings = [Reading() for _ in rows]
        encoded = np.asarray(self.model.encode(_view(self._fitted(mel)), to_cpu=True))
        self._detect(encoded, rows, readings)
        groups = defaultdict(list)
        for number, row in enumerate(rows):
            if not row.detect_language:
                groups[row.computed_with].append(number)
        for group in groups.values():
            if numbers := [number for number in group if is_wanted(number)]:
                self._decode(encoded, rows, numbers, readings)
        timed = defaultdict(list)
        for number, row in enumerate(rows):
            if row.word_times and readings[number].texts and self._words(readings[number]):
                timed[row.start].append(number)
        for group in timed.values():
            if numbers := [number for number in group if is_wanted(number)]:
                self._align(encoded, rows, numbers, readings)
        return readings

    def _fitted(self, mel):
        """Return windows that the engine takes for what they are.

        It finds no times in the shortest ones, and takes the output of the encoder for input when it has as many
        positions as the input has mels.
        """
        rows, mels, frames = mel.shape
        length = max(frames, SHORTEST)
        if (length + 1) // 2 == mels:
            length = 2 * mels + 1
        if length == frames:
            return mel
        fitted = np.empty((rows, mels, length), dtype=mel.dtype)
        fitted[:, :, :frames] = mel
        fitted[:, :, frames:] = mel.min(axis=(1, 2), keepdims=True)
        return fitted

    def _detect(self, encoded, rows, readings):
        numbers = [number for number, row in enumerate(rows) if row.detect_language]
        if not numbers or not self.model.is_multilingual:
            return
        for number, found in zip(numbers, self.model.detect_language(_part(encoded, numbers)), strict=True):
            probabilities = dict(found)
            readings[number].languages = [probabilities[language] for language in self.special.languages]

    def _decode(self, encoded, rows, numbers, readings):
        first = rows[numbers[0]]
        sampling = {"sampling_topk": 0, "sampling_temperature": first.temperature} if first.temperature else {}
        results = self.model.generate(
            _part(encoded, numbers),
            [list(rows[number].prompt) for number in numbers],
            beam_size=1 if sampling else max(first.beam_size, first.alternatives),
            num_hypotheses=first.alternatives,
            max_length=_max_length(len(first.prompt), first.max_new_tokens),
            suppress_tokens=list(self.special.suppressed),
            return_scores=True,
            return_no_speech_prob=True,
            **sampling,
        )
        for number, result in zip(numbers, results, strict=True):
            # the engine's sum has the end of the text, its length has not
            scores = [
                score * len(ids) / (len(ids) + 1)
                for score, ids in zip(result.scores, result.sequences_ids, strict=True)
            ]
            best_first = sorted(range(len(scores)), key=lambda place: -scores[place])
            readings[number].texts = [result.sequences_ids[place] for place in best_first]
            readings[number].scores = [scores[place] for place in best_first]
            readings[number].no_speech = result.no_speech_prob

    def _align(self, encoded, rows, numbers, readings):
        results = self.model.align(
            _part(encoded, numbers),
            list(rows[numbers[0]].start),
            [self._words(readings[number]) for number in numbers],
            [max(rows[number].frames, SHORTEST) for number in numbers],
        )
        for number, result in zip(numbers, results, strict=True):
            tokens, positions = np.array(result.alignments).T
            begins = np.diff(tokens, prepend=-1) > 0
            readings[number].token_times = (positions[begins] / ENCODER_RATE).tolist()
            readings[number].token_probabilities = list(result.text_token_probs)

    def _words(self, reading):
        """Return the tokens of the best text, without time stamps."""
        return [token for token in reading.texts[0] if token < self.special.end_of_text]


def _max_length(prompt, new_tokens):
    """Return what makes the engine generate so many: at most half of it, and with the prompt one more than it."""
    return max(2 * new_tokens, prompt + new_tokens - 1)


def _view(array):
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _part(encoded, numbers):
    return _view(encoded if len(numbers) == len(encoded) else encoded[numbers])
