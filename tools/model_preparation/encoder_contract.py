"""What the artifacts of an encoder must be: tensors, shapes, vectors of the self-test reproduced."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from services.common.manifest import EmbeddingFacts
from tools.model_preparation.graph_loading import ContractError, load_graph

MIN_COSINE = 0.9999


def check_encoder(facts: EmbeddingFacts, artifacts: Mapping[str, Path]) -> None:
    """Check the graph of an encoder and that it reproduces its self-test. ContractError says what does not hold."""
    session = load_graph(artifacts["model.onnx"], "model.onnx")
    _check_tensors(facts, session)
    try:
        cases = json.loads(artifacts["selftest.json"].read_text(encoding="utf-8"))["cases"]
        worst = float(np.min([_cosine(session, case["token_ids"], case["vector"]) for case in cases]))
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError("selftest.json is not a self-test") from error
    except Exception as error:
        raise ContractError("model.onnx fails on the token ids of selftest.json") from error
    if not worst >= MIN_COSINE:
        raise ContractError(f"model.onnx does not reproduce selftest.json: cosine {worst:.6f} < {MIN_COSINE}")


def _check_tensors(facts: EmbeddingFacts, session: Any) -> None:
    inputs = {tensor.name: (tensor.type, len(tensor.shape)) for tensor in session.get_inputs()}
    if inputs != {"input_ids": ("tensor(int64)", 2), "attention_mask": ("tensor(int64)", 2)}:
        raise ContractError(f"inputs are {inputs}, expected int64 [batch, sequence] input_ids and attention_mask")
    outputs = {tensor.name: (tensor.type, tensor.shape[-1]) for tensor in session.get_outputs()}
    name, (kind, width) = next(iter(outputs.items()))
    if len(outputs) != 1 or name != "sentence_embedding" or kind != "tensor(float)":
        raise ContractError(f"outputs are {outputs}, expected one float32 sentence_embedding")
    if isinstance(width, int) and width != facts.dimensions:
        raise ContractError(f"vectors have {width} dimensions, the manifest says {facts.dimensions}")


def _cosine(session: Any, token_ids: list[int], expected: list[float]) -> float:
    ids = np.asarray([token_ids], dtype=np.int64)
    (actual,) = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    wanted = np.asarray(expected, dtype=np.float32)
    with np.errstate(all="ignore"):  # a vector of zeros gives NaN, which is refused
        return float(actual[0] @ wanted / (np.linalg.norm(actual[0]) * np.linalg.norm(wanted)))
