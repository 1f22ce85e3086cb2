"""An embedder without a model: a token is a character, and the vector of a text is looked up."""

import threading
from contextlib import asynccontextmanager

import numpy as np

from services.common.manifest import EmbeddingFacts
from services.common.request_context import priority_of
from services.embedding.costs import Costs
from services.embedding.embedder import Embedder

FACTS = EmbeddingFacts(
    dimensions=4,
    allowed_dimensions=(2, 4),
    max_tokens=256,
    vocabulary_size=30522,
    pad_token_id=0,
    query_prefix="query: ",
    passage_prefix="passage: ",
)
OTHERWISE = (0.5, -0.5, 0.5, -0.5)


class FakeTokenizer:
    def __init__(self):
        self.asked, self.threads = [], set()

    def encode(self, field, text, truncate):
        self.asked.append((field, text, truncate))
        self.threads.add(threading.current_thread())
        return [ord(character) for character in text]

    def complete(self, field, ids, truncate):
        self.asked.append((field, ids, truncate))
        return [1, *ids, 2]


class FakeBatcher:
    def __init__(self, vectors):
        self.vectors, self.submitted = vectors, []

    async def submit(self, rows, lengths, priority):
        self.submitted.append((rows, lengths, priority))
        return [np.array(self.vectors.get("".join(map(chr, row)), OTHERWISE), np.float32) for row in rows]


class FakeAdmission:
    def __init__(self):
        self.admitted = []

    @asynccontextmanager
    async def admit_call(self, cost, context):
        self.admitted.append((cost, context.time_remaining(), priority_of(context)))
        yield


class FakeContext:
    def __init__(self, remaining=None, priority=None):
        self._remaining, self._priority = remaining, priority

    def time_remaining(self):
        return self._remaining

    def invocation_metadata(self):
        return () if self._priority is None else (("x-flotilla-priority", self._priority),)


def embedder(vectors=None, model="m"):
    return Embedder(
        model, "MIT", "cpu-fp32", "m", FACTS, FakeTokenizer(), FakeBatcher(vectors or {}), Costs(FACTS.max_tokens)
    )
