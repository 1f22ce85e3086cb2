"""The exported graph held against the reference: how far apart, and the self-test both agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.export.command import ExportRefusedError
from tools.export.llm.reference import log_probabilities, log_softmax
from tools.export.llm.runtime import Graph
from tools.export.llm.selftest import Case, SelfTest
from tools.export.llm.source import Array, Source

TEXTS = (
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Once upon a time, in a small village by the sea, there lived an old lighthouse keeper. Every evening, when the "
    "fishing boats came home, he climbed the 199 steps to light the lamp. One night the lamp would not burn. He tried "
    "oil, he tried matches, he tried a candle; nothing helped. Then",
    "Water boils at 100 degrees",
)
ANSWER_TOKENS = 24
MAX_DIVERGENCE = 0.05
"""Mean Kullback-Leibler divergence, in nats, over all positions."""
MIN_AGREEMENT = 0.95
CLOSE = 0.1
"""Nats between the two best tokens below which either may come first."""
MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the graph is from the reference."""

    mean_divergence: float
    agreement: float
    """Share of positions at which the graph's best token is the reference's, or as good as it."""
    max_difference: float
    """Of the log-probabilities of the tokens that were chosen."""


def prove(path: Path, source: Source, tokenizer: Any) -> tuple[Parity, SelfTest]:
    """Return how close the graph comes, and its self-test. ExportRefusedError when it is another model."""
    graph, vocabulary = Graph(path), source.vocabulary()
    start = [vocabulary.bos] if vocabulary.adds_bos and vocabulary.bos is not None else []
    prompts = [start + list(tokenizer.encode(text, add_special_tokens=False).ids) for text in TEXTS]
    answers = [graph.greedy(prompt, ANSWER_TOKENS, vocabulary.eos_ids) for prompt in prompts]
    sequences = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    expected = log_probabilities(source, sequences)
    parity = compare(expected, [_follow(graph, ids) for ids in sequences], sequences)
    if not (parity.mean_divergence <= MAX_DIVERGENCE and parity.agreement >= MIN_AGREEMENT):
        raise ExportRefusedError(
            f"the exported graph differs from the original: mean divergence {parity.mean_divergence:.4f} nats, "
            f"best token equal at {parity.agreement:.1%} of the positions"
        )
    cases = [
        agreed(text, prompt, answer, rows)
        for text, prompt, answer, rows in zip(TEXTS, prompts, answers, expected, strict=True)
    ]
    if not (kept := [case for case in cases if case.output_ids]):
        raise ExportRefusedError("the exported graph agrees with the original on no answer")
    return parity, SelfTest(round(2 * parity.max_difference + MARGIN, 4), kept)


def compare(expected: Sequence[Array], actual: Sequence[Array], sequences: Sequence[Sequence[int]]) -> Parity:
    """Compare log-probabilities [tokens, vocabulary] of the same sequences."""
    wanted, found = np.concatenate(expected), np.concatenate(actual)
    divergence = (np.exp(wanted) * (wanted - found)).sum(axis=-1)
    best = np.take_along_axis(wanted, found.argmax(axis=-1)[:, None], axis=-1)[:, 0]
    chosen = [
        np.abs(a[np.arange(len(ids) - 1), ids[1:]] - b[np.arange(len(ids) - 1), ids[1:]]).max()
        for a, b, ids in zip(expected, actual, sequences, strict=True)
    ]
    agreement = (wanted.max(axis=-1) - best <= CLOSE).mean()
    return Parity(float(divergence.mean()), float(agreement), float(max(chosen)))


def agreed(text: str, prompt: list[int], answer: list[int], expected: Array) -> Case:
    """Return the case up to where the reference would go on otherwise, or could as well."""
    output, logprobs = [], []
    for token, row in zip(answer, expected[len(prompt) - 1 :], strict=False):
        second, first = np.partition(row, -2)[-2:]
        if int(row.argmax()) != token or first - second < CLOSE:
            break
        output.append(token)
        logprobs.append(round(float(row[token]), 5))
    return Case(text, prompt, output, logprobs)


def _follow(graph: Graph, ids: Sequence[int]) -> Array:
    graph.restart()
    return log_softmax(graph.follow(ids))
