"""An estimate of what the engine's prefix cache holds: the engine does not say how much of a prompt it found there."""

from collections import OrderedDict

BLOCK_TOKENS = 32
"""Tokens in a block of the engine's KV cache on a CPU."""


def blocks_for(tokens):
    """Return how many blocks of the KV cache so many tokens fill."""
    return -(-tokens // BLOCK_TOKENS)


class Prefixes:
    """The most recently used blocks of tokens, each known by itself and all that came before it."""

    def __init__(self, most_blocks):
        self._most, self._known = most_blocks, OrderedDict()

    def cached_tokens(self, ids):
        """Return how many leading tokens of a prompt are remembered; the last is always computed."""
        count = 0
        for key in _keys(ids):
            if key not in self._known:
                break
            count += BLOCK_TOKENS
        return min(count, max(0, len(ids) - 1))

    def remember(self, ids):
        """Take note of tokens whose keys and values have been computed."""
        for key in _keys(ids):
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def forget(self):
        """Forget everything: the engine was built anew."""
        self._known.clear()


def _keys(ids):
    key = 0
    for start in range(0, len(ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        key = hash((key, tuple(ids[start : start + BLOCK_TOKENS])))
        yield key
