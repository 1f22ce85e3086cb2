"""The encoder: questions and passages to vectors, judged by cosine and by what a search finds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.common.manifest import EmbeddingFacts, Model
from services.embedding.model import ATTENTION_MASK, INPUT_IDS, OUTPUT
from services.embedding.tokenizer import TextTokenizer, Truncate
from tools.engines.metrics.retrieval import common_neighbours, least_cosine, mean_cosine, ndcg, rankings, recall
from tools.engines.subjects import Metric, Run, Subject, Tensors
from tools.export.texts import parity_texts

CORPUS = Path(__file__).parents[1] / "corpus" / "retrieval.toml"
DEPTH = 10
BEST_GAIN, TOPIC_GAIN = 3.0, 1.0
BATCH = 16
CALIBRATION_BATCHES = 12


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages, queries, and what each passage is worth to each query."""

    passages: tuple[str, ...]
    queries: tuple[str, ...]
    best: NDArray[np.intp]
    """The passage that answers each query, [queries]."""
    gains: NDArray[np.float32]
    """[queries, passages]."""


def subjects(model: Model, files: Mapping[str, Path]) -> tuple[Subject, ...]:
    """Return the encoder's graph."""
    facts = model.embedding
    assert facts is not None  # noqa: S101  # the manifest checks it
    tokenizer = TextTokenizer(files["tokenizer.json"], facts.max_tokens, facts.vocabulary_size)
    return (
        Subject(
            model.id,
            model.triton_name,
            files["model.onnx"],
            partial(_calibration, tokenizer, facts),
            partial(_evaluate, tokenizer, facts),
        ),
    )


def load_corpus(path: Path = CORPUS) -> Corpus:
    """Read the corpus of the search."""
    passages: list[str] = []
    queries: list[tuple[str, int, range]] = []
    for topic in tomllib.loads(path.read_text(encoding="utf-8"))["topics"]:
        own = range(len(passages), len(passages) + len(topic["passages"]))
        passages += topic["passages"]
        queries += [(text, own[number], own) for text, number in topic["queries"]]
    gains = np.zeros((len(queries), len(passages)), dtype=np.float32)
    for row, (_, best, own) in zip(gains, queries, strict=True):
        row[list(own)], row[best] = TOPIC_GAIN, BEST_GAIN
    return Corpus(tuple(passages), tuple(text for text, _, _ in queries), np.array([q[1] for q in queries]), gains)


def described_data() -> list[str]:
    """Return paragraphs of English prose: the descriptions of the data sets that scikit-learn carries."""
    from sklearn import datasets  # noqa: PLC0415 - of the `test` extra

    texts = sorted((Path(datasets.__file__).parent / "descr").glob("*.rst"))
    blocks = [block for path in texts for block in path.read_text(encoding="utf-8").split("\n\n")]
    prose = [" ".join(block.split()) for block in blocks]
    return [text for text in prose if len(text) > 80 and sum(map(str.isalpha, text)) > 0.7 * len(text)]


def _calibration(tokenizer: TextTokenizer, facts: EmbeddingFacts) -> Iterator[Tensors]:
    texts = described_data()
    sentences = [part.strip() for text in texts for part in text.split(". ") if len(part) > 20]
    # Batches of one length each, as the service makes them: padding is hardly ever more than a few tokens.
    by_length = sorted([*texts, *sentences], key=len)
    chosen = np.linspace(0, len(by_length) - BATCH, CALIBRATION_BATCHES).astype(int)
    for start in chosen:
        yield _batch(tokenizer, facts, by_length[start : start + BATCH])


def _evaluate(tokenizer: TextTokenizer, facts: EmbeddingFacts, reference: Run, candidate: Run) -> tuple[Metric, ...]:
    corpus, odd = load_corpus(), parity_texts()
    before, after = (
        [_vectors(run, tokenizer, facts, texts) for texts in (corpus.queries, corpus.passages, odd)]
        for run in (reference, candidate)
    )
    old, new = (rankings(queries, passages) for queries, passages, _ in (before, after))
    count, plain = len(corpus.queries), len(corpus.queries) + len(corpus.passages)
    together = [np.concatenate(rows[:2]) for rows in (before, after)]
    return (
        Metric("cosine to the reference, mean", 1.0, mean_cosine(*together), plain),
        Metric(f"nDCG@{DEPTH}", ndcg(old, corpus.gains, DEPTH), ndcg(new, corpus.gains, DEPTH), count),
        Metric("recall@5", recall(old, corpus.best, 5), recall(new, corpus.best, 5), count),
        Metric("recall@1", recall(old, corpus.best, 1), recall(new, corpus.best, 1), count, decides=False),
        Metric(f"neighbours in common @{DEPTH}", 1.0, common_neighbours(old, new, DEPTH), count, decides=False),
        Metric("cosine, least", 1.0, least_cosine(*together), plain, decides=False),
        Metric("cosine on odd texts, mean", 1.0, mean_cosine(before[2], after[2]), len(odd), decides=False),
    )


def _vectors(run: Run, tokenizer: TextTokenizer, facts: EmbeddingFacts, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors [texts, dimensions] of texts in their order, computed in batches of similar length."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    vectors = np.empty((len(texts), facts.dimensions), dtype=np.float32)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        vectors[chosen] = run(_batch(tokenizer, facts, [texts[number] for number in chosen]))[OUTPUT]
    return vectors


def _batch(tokenizer: TextTokenizer, facts: EmbeddingFacts, texts: Sequence[str]) -> Tensors:
    rows = [tokenizer.encode("text", text, Truncate.END) for text in texts]
    shape = len(rows), max(map(len, rows))
    ids, mask = np.full(shape, facts.pad_token_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return {INPUT_IDS: ids, ATTENTION_MASK: mask}
