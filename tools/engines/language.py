"""The gate of a language model: what serves it is held against the best-precision weights of the manifest.

A language model is no graph that engines are built from, so it has a way of its own: the evaluation runs in the
throw-away environment of its exporter, without torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore
from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.engines.gate import GateReport
from tools.engines.subjects import Metric
from tools.model_preparation.commands import run
from tools.model_preparation.export_environment import ExportEnvironments
from tools.model_preparation.progress import step
from tools.model_preparation.sources import acquire

ENVIRONMENT = "export-llm"
CORPUS = Path(__file__).parent / "corpus" / "retrieval.toml"
GRAPH, WEIGHTS = "openvino_model.bin", "vllm.safetensors"
CANDIDATES = {"cpu-int4": GRAPH, "vllm-bf16": WEIGHTS}
"""By profile the artifact that has the weights; vllm-bf16 is the rounding of the weights, in float32 arithmetic."""


def texts() -> list[str]:
    """Return the texts: the passages of every topic of the corpus as one."""
    document = tomllib.loads(CORPUS.read_text(encoding="utf-8"))
    return [" ".join(topic["passages"]) for topic in document["topics"]]


def gate_language_model(
    model: Model, manifest: Manifest, store: ModelStore, environments: ExportEnvironments, tolerance: float
) -> dict[str, GateReport]:
    """Return the verdict on each profile whose weights the store has. Problem where the evaluation itself fails."""
    began = time.monotonic()
    scratch = environments.scratch / "gate"
    source, artifacts = scratch / "source", scratch / "artifacts"
    for folder in (source, artifacts):
        folder.mkdir(parents=True)
    stored = store.model(model.id)
    store.require(model.id, model.required_artifacts)
    assert stored is not None  # noqa: S101  # the line before
    for name, artifact in stored.artifacts.items():
        (artifacts / name).symlink_to(store.blob_path(artifact.digest))
    acquire(model, source, scratch, manifest.folder)
    sums = _evaluate(environments, scratch, source, artifacts)
    reference = hashlib.sha256("".join(file.sha256 for file in model.files).encode()).hexdigest()
    return {
        name: GateReport(
            model.id,
            model.triton_name,
            reference,
            stored.artifacts[CANDIDATES[name]].digest,
            tolerance,
            metrics(found),
            None,
            "",
            time.monotonic() - began,
        )
        for name, found in sums.items()
    }


def metrics(sums: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Return the measures of one candidate: its sums as tools.export.llm.evaluation counts them."""
    tokens, positions = sums["tokens"], sums["positions"]
    original, served = (math.exp(-sums[key] / tokens) for key in ("reference_nll", "nll"))
    return (
        Metric("token likelihood (1 / perplexity)", original, served, tokens),
        Metric("greedy agreement, ties within 0.1 nats", 1.0, sums["agreeing"] / positions, positions),
        Metric("greedy agreement, the very token", 1.0, sums["same"] / positions, positions, decides=False),
    )


def _evaluate(environments: ExportEnvironments, scratch: Path, source: Path, artifacts: Path) -> dict[str, Any]:
    python = environments.interpreter(ENVIRONMENT)
    asked, out = scratch / "texts.json", scratch / "sums.json"
    asked.write_text(json.dumps(texts()), encoding="utf-8")
    command: list[str | Path] = ["env", "-u", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore"]
    command += [python, "-m", "tools.export.llm.evaluation", "--source", source, "--artifacts", artifacts]
    with step("Reading the texts with the original weights and with what is served") as current:
        code, lines = run([*command, "--texts", asked, "--out", out], current.show, cwd=REPOSITORY_ROOT)
    if code != 0:
        said = [line for line in lines if line.strip()] or [f"exit code {code}"]
        raise Problem(f"the language model cannot be judged: {said[-1].strip()}", "run the command again")
    return dict(json.loads(out.read_text(encoding="utf-8")))
