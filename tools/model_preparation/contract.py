"""The contract of artifacts, checked with the runtime that serves them: tensors, shapes, reproduced vectors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from services.common.manifest import EmbeddingFacts, Model
from tools.cli.console import Problem

MIN_COSINE = 0.9999


def check_artifacts(model: Model, artifacts: Mapping[str, Path]) -> None:
    """Check all that serving relies on. Problem says what does not hold."""
    if absent := [name for name in model.required_artifacts if name not in artifacts]:
        raise _refusal(model, f"{', '.join(absent)} is missing")
    if model.embedding is not None and "model.onnx" in artifacts:
        _check_encoder(model, model.embedding, artifacts)


def _check_encoder(model: Model, facts: EmbeddingFacts, artifacts: Mapping[str, Path]) -> None:
    import onnxruntime  # noqa: PLC0415 - slow to import, and a full store needs no check

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(artifacts["model.onnx"]), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise _refusal(model, "model.onnx cannot be loaded by ONNX Runtime") from error
    _check_tensors(model, facts, session)
    try:
        cases = json.loads(artifacts["selftest.json"].read_text(encoding="utf-8"))["cases"]
        worst = float(np.min([_cosine(session, case["token_ids"], case["vector"]) for case in cases]))
    except (ValueError, KeyError, TypeError) as error:
        raise _refusal(model, "selftest.json is not a self-test") from error
    except Exception as error:
        raise _refusal(model, "model.onnx fails on the token ids of selftest.json") from error
    if not worst >= MIN_COSINE:
        raise _refusal(model, f"model.onnx does not reproduce selftest.json: cosine {worst:.6f} < {MIN_COSINE}")


def _check_tensors(model: Model, facts: EmbeddingFacts, session: Any) -> None:
    inputs = {tensor.name: (tensor.type, len(tensor.shape)) for tensor in session.get_inputs()}
    if inputs != {"input_ids": ("tensor(int64)", 2), "attention_mask": ("tensor(int64)", 2)}:
        raise _refusal(model, f"inputs are {inputs}, expected int64 [batch, sequence] input_ids and attention_mask")
    outputs = {tensor.name: (tensor.type, tensor.shape[-1]) for tensor in session.get_outputs()}
    name, (kind, width) = next(iter(outputs.items()))
    if len(outputs) != 1 or name != "sentence_embedding" or kind != "tensor(float)":
        raise _refusal(model, f"outputs are {outputs}, expected one float32 sentence_embedding")
    if isinstance(width, int) and width != facts.dimensions:
        raise _refusal(model, f"vectors have {width} dimensions, the manifest says {facts.dimensions}")


def _cosine(session: Any, token_ids: list[int], expected: list[float]) -> float:
    ids = np.asarray([token_ids], dtype=np.int64)
    (actual,) = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    wanted = np.asarray(expected, dtype=np.float32)
    with np.errstate(all="ignore"):  # a vector of zeros gives NaN, which is refused
        return float(actual[0] @ wanted / (np.linalg.norm(actual[0]) * np.linalg.norm(wanted)))


def _refusal(model: Model, message: str) -> Problem:
    return Problem(f"artifacts of '{model.id}' refused: {message}", "see docs/models.md for what the artifacts must be")
