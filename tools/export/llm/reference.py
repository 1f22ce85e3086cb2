"""The network in plain numpy on the file's own weights: an independent reference, one layer in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tools.export.llm.source import Array, Shape, Weights


def log_probabilities(source: Weights, sequences: Sequence[Sequence[int]]) -> list[Array]:
    """Return, for each sequence of token ids, the log-probabilities [tokens, vocabulary] of what comes next."""
    embedding = source.embedding()
    states = [embedding[np.asarray(ids)] for ids in sequences]
    for layer in range(source.shape.layers):
        states = _layer(source, layer, states)
    head = source.head()
    weights = embedding if head is None else head
    scale = source.final_norm()
    return [log_softmax(_norm(x, scale, source.shape) @ weights.T) for x in states]


def log_softmax(logits: Array) -> Array:
    """Return logits [..., vocabulary] as natural log-probabilities."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float32)


def _layer(source: Weights, layer: int, states: list[Array]) -> list[Array]:
    weights = {name: source.projection(layer, name) for name in ("q", "k", "v", "o", "gate", "up", "down")}
    before, between = source.norm(layer, "attention"), source.norm(layer, "feed_forward")

    def linear(name: str, x: Array) -> Array:
        matrix, bias = weights[name]
        y = x @ matrix.values.T
        return y if bias is None else np.asarray(y + bias)

    results = []
    for state in states:
        x = _norm(state, before, source.shape)
        attended = state + linear("o", _attend(source.shape, *(linear(name, x) for name in "qkv")))
        x = _norm(attended, between, source.shape)
        gate = linear("gate", x)
        results.append(attended + linear("down", gate / (1 + np.exp(-gate)) * linear("up", x)))
    return results


def _attend(shape: Shape, q: Array, k: Array, v: Array) -> Array:
    """Causal attention with grouped heads: [tokens, heads * size] in and out."""
    tokens = len(q)
    q, k, v = (x.reshape(tokens, -1, shape.head_size).swapaxes(0, 1) for x in (q, k, v))
    q, k = _rotate(shape, q), _rotate(shape, k)
    k, v = (np.repeat(x, shape.heads // shape.kv_heads, axis=0) for x in (k, v))
    scores = q @ k.swapaxes(1, 2) / np.sqrt(shape.head_size)
    scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf).astype(np.float32)
    return np.asarray((np.exp(log_softmax(scores)) @ v).swapaxes(0, 1).reshape(tokens, -1), dtype=np.float32)


def _rotate(shape: Shape, x: Array) -> Array:
    """Turn the pairs of [heads, tokens, size] by position x frequency, in the layout that the file has."""
    angles = np.arange(x.shape[1])[:, None] * shape.frequencies()[None, :]
    cos, sin = np.cos(angles), np.sin(angles)
    half = shape.head_size // 2
    first, second = (
        (slice(0, None, 2), slice(1, None, 2)) if shape.rope_interleaved else (slice(half), slice(half, None))
    )
    turned = np.empty_like(x)
    turned[..., first] = x[..., first] * cos - x[..., second] * sin
    turned[..., second] = x[..., first] * sin + x[..., second] * cos
    return turned


def _norm(x: Array, weights: Array, shape: Shape) -> Array:
    root = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + shape.epsilon)
    return np.asarray(x / root * weights, dtype=np.float32)
