"""A tiny encoder in ONNX with its artifacts, and a manifest entry for it; no torch, no network."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.common.manifest import Manifest, parse_manifest

DIMENSIONS = 4
TABLE = np.random.default_rng(7).normal(size=(10, DIMENSIONS)).astype(np.float32)


def write_onnx(path: Path, table: np.ndarray[Any, Any] = TABLE, output: str = "sentence_embedding") -> None:
    """Write an encoder: the mean of the rows of a table, L2-normalised."""
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")]
    out = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["b", DIMENSIONS])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["weighted"]),
        helper.make_node("ReduceMean", ["weighted"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node("LpNormalization", ["pooled"], [output], axis=1, p=2),
    ]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([2]), "last")]
    graph = helper.make_graph(nodes, "encoder", ids, [out], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def vector(token_ids: list[int]) -> list[float]:
    pooled = TABLE[token_ids].mean(axis=0)
    return [float(value) for value in pooled / np.linalg.norm(pooled)]


def write_selftest(path: Path) -> None:
    cases = [{"text": "t", "token_ids": ids, "vector": vector(ids)} for ids in ([1, 2, 3], [4, 5])]
    path.write_text(json.dumps({"format": 1, "cases": cases}), encoding="utf-8")


def write_source(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")


def write_artifacts(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_onnx(folder / "model.onnx")
    write_selftest(folder / "selftest.json")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")


def manifest_for(folder: Path, source: Path, sources: list[dict[str, Any]]) -> Manifest:
    files = [
        {"name": p.name, "sha256": hashlib.sha256(p.read_bytes()).hexdigest(), "size": p.stat().st_size}
        for p in sorted(source.iterdir())
    ]
    files.append({"name": "LICENSE", "sha256": "0" * 64, "size": 1, "optional": True})
    facts = {"dimensions": 4, "allowed_dimensions": [4], "max_tokens": 8, "vocabulary_size": 10, "pad_token_id": 0}
    entry = {
        "service": "embedding",
        "description": "tiny",
        "license": "Apache-2.0",
        "license_source": "made here",
        "files": files,
        "sources": sources,
        "artifacts": {
            "model.onnx": {"exporter": "sentence-encoder"},
            "selftest.json": {"exporter": "sentence-encoder"},
            "tokenizer.json": {"copy": "tokenizer.json"},
            "LICENSE": {"copy": "LICENSE"},
        },
        "embedding": facts,
    }
    return parse_manifest({"models": {"tiny": entry}}, folder / "models.toml")
