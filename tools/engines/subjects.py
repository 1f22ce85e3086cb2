"""What a graph of the model store needs to be converted and judged: real inputs, and a measure of its task.

Stages know a graph only as a `Subject`; another service's graphs join by adding their provider to `PROVIDERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore, ModelStoreError
from tools.cli.console import Problem

Tensors = Mapping[str, NDArray[Any]]
"""Arrays by tensor name, batch first."""
Run = Callable[[Tensors], Tensors]
"""Computes a graph: inputs to outputs."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure of the task, higher is better: what the reference reaches and what the candidate reaches."""

    name: str
    reference: float
    candidate: float
    samples: int
    decides: bool = True
    """Whether the gate refuses a graph that loses too much of it; others are only told."""

    @property
    def loss(self) -> float:
        """Share of the reference's value that the candidate lacks; negative where it is better."""
        if self.reference == 0:
            return 0.0
        return (self.reference - self.candidate) / abs(self.reference)


@dataclass(frozen=True, slots=True)
class Subject:
    """One graph of the model store."""

    model_id: str
    triton_model: str
    graph: Path
    """The best-precision ONNX graph: source of every conversion, and what candidates are measured against."""
    calibration: Callable[[], Iterator[Tensors]]
    """Yields real inputs, the same in every run, for quantisers to learn the range of activations from."""
    evaluate: Callable[[Run, Run], tuple[Metric, ...]]
    """Measures the candidate (second) against the reference (first) on other real data than the calibration's."""


Provider = Callable[[Model, Mapping[str, Path]], tuple[Subject, ...]]
"""Makes the subjects of a model from its artifacts in the store by name."""


def subject(triton_model: str, manifest: Manifest, store: ModelStore) -> Subject:
    """Return the subject of a Triton model. Problem names the known ones, or what the store lacks."""
    known = subjects(manifest, store)
    found = next((one for one in known if one.triton_model == triton_model), None)
    if found is None:
        names = ", ".join(one.triton_model for one in known) or "none"
        raise Problem(f"no graph '{triton_model}' can be made an engine", f"take one of: {names}")
    return found


def subjects(manifest: Manifest, store: ModelStore) -> tuple[Subject, ...]:
    """Return every graph whose model is in the store, in the order of the manifest."""
    from tools.engines.providers import PROVIDERS  # noqa: PLC0415 - providers know subjects, not the other way round

    found: list[Subject] = []
    for model in manifest.models.values():
        provider = PROVIDERS.get(model.service)
        if provider is None or store.model(model.id) is None:
            continue
        try:
            files = store.require(model.id, model.required_artifacts)
        except ModelStoreError as error:
            raise Problem(str(error)) from error
        found += provider(model, files)
    return tuple(found)
