"""One model of the service: text or token ids in, vectors out, through tokenizer and batcher."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from services.common.batcher import Batcher
from services.common.manifest import EmbeddingFacts
from services.embedding.costs import Costs
from services.embedding.tokenizer import TextTokenizer, Truncate
from services.embedding.vectors import Vectors

# Tokenising this much text takes about a millisecond; more goes to a thread.
INLINE_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Text:
    """An input as text, or as token ids, and the name of its field in the request."""

    field: str
    value: str | Sequence[int]

    @property
    def size(self) -> int:
        """Characters or ids."""
        return len(self.value)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors [n, dimensions] float32 and the tokens of each input."""

    vectors: Vectors
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Embedder:
    """What embeds texts with one model."""

    id: str
    license: str
    profile: str
    triton_name: str
    facts: EmbeddingFacts
    tokenizer: TextTokenizer
    batcher: Batcher[Sequence[int], Vectors]
    costs: Costs

    def cost(self, texts: Sequence[Text]) -> float:
        """Return an estimate in tokens, made before any work, each text cut at the model's limit."""
        costs = self.costs
        return sum(
            costs.of_text(text.size) if isinstance(text.value, str) else costs.of_ids(text.size) for text in texts
        )

    async def embed(self, texts: Sequence[Text], truncate: Truncate, priority: int) -> Embedded:
        """Return one vector for each text, in order. Raises INVALID_ARGUMENT for a text over the limit."""
        work: Callable[[], list[list[int]]] = partial(self._tokenise, texts, truncate)
        small = sum(text.size for text in texts) <= INLINE_CHARACTERS
        rows = work() if small else await asyncio.to_thread(work)
        lengths = [len(row) for row in rows]
        for text, length in zip(texts, lengths, strict=True):
            if isinstance(text.value, str):
                self.costs.learn(text.size, length)
        vectors = await self.batcher.submit(rows, lengths, priority)
        return Embedded(np.stack(vectors), lengths)

    def _tokenise(self, texts: Sequence[Text], truncate: Truncate) -> list[list[int]]:
        return [
            self.tokenizer.encode(text.field, text.value, truncate)
            if isinstance(text.value, str)
            else self.tokenizer.complete(text.field, text.value, truncate)
            for text in texts
        ]
