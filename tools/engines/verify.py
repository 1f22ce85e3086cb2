"""Prove an engine: its tensors against the contract, and where there is a GPU, its outputs against the graph's.

Without a GPU neither TensorRT nor TensorRT-RTX deserialises an engine: then the outcome says that it was not run.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.contract import of_config
from services.common.machine import Machine
from services.common.triton import model_config_pb2
from tools.cli.console import Problem
from tools.engines.builders import Builder
from tools.engines.child import Show
from tools.engines.sessions import open_graph
from tools.engines.shapes import Profile, covering
from tools.engines.subjects import Subject, Tensors
from tools.engines.tensorrt_runtime import RunRequest

SAMPLES = 8
MOST_DISTANCE, LEAST_AGREEMENT = 0.02, 0.95
"""Of floats relative to their length as one vector, and of integers: the services' self-tests have the same."""
Signature = Mapping[str, Sequence[Any]]
"""For each tensor its KServe dtype and its shape, batch first, -1 for a free axis."""


def check_contract(config: model_config_pb2.ModelConfig, inputs: Signature, outputs: Signature) -> None:
    """Problem when an engine's tensors are not those of the configuration it shall run under."""
    contract = of_config(config)
    for kind, declared, found in (("input", contract.inputs, inputs), ("output", contract.outputs, outputs)):
        if declared.keys() != found.keys():
            names = f"{', '.join(sorted(found))}, the contract {', '.join(sorted(declared))}"
            raise Problem(f"{config.name}: the engine has {kind}s {names}", "correct the graph or the config.pbtxt")
        for name, tensor in declared.items():
            datatype, shape = found[name]
            if datatype != tensor.datatype or not _agree(tensor.shape, shape[1:]):
                raise Problem(
                    f"{config.name}: {kind} {name} of the engine is {datatype} {list(shape[1:])}, "
                    f"the contract says {tensor.datatype} {list(tensor.shape)}",
                    "correct the graph or the config.pbtxt",
                )


def prove(
    builder: Builder,
    engine: Path,
    graph: Path,
    subject: Subject,
    *,
    profiles: Sequence[Profile],
    scratch: Path,
    show: Show,
) -> dict[str, Any]:
    """Run real inputs through an engine and the graph it was made of. Problem when they differ, or nothing ran."""
    samples = _samples(subject, profiles)
    sent, received = scratch / "inputs.npz", scratch / "outputs.npz"
    _save(sent, [tensors for tensors, _ in samples])
    request = RunRequest(builder.name, str(engine), str(sent), str(received), [number for _, number in samples])
    facts = builder.run(request, show)
    reference, worst = open_graph(graph), 0.0
    with np.load(received) as stored:
        for number, (tensors, _) in enumerate(samples):
            for name, expected in reference(tensors).items():
                worst = max(worst, _distance(subject.triton_model, name, stored[f"{number}:{name}"], expected))
    return {"ran": True, "samples": len(samples), "largest_distance": worst, **facts}


def not_run(machine: Machine) -> dict[str, Any]:
    """Return what is recorded of an engine that this machine cannot run."""
    return {"ran": False, "reason": "not deserialised and not run: no NVIDIA GPU here", "platform": machine.platform}


def _agree(declared: Sequence[int], found: Sequence[int]) -> bool:
    pairs = zip(declared, found, strict=False)
    return len(declared) == len(found) and all(-1 in pair or pair[0] == pair[1] for pair in pairs)


def _samples(subject: Subject, profiles: Sequence[Profile]) -> list[tuple[Tensors, int]]:
    """Return real inputs with the tightest profile that takes each."""
    samples = []
    for tensors in islice(subject.calibration(), SAMPLES):
        fitting = covering(profiles, {name: array.shape for name, array in tensors.items()})
        if fitting:
            samples.append((tensors, fitting[0]))
    if not samples:
        raise Problem(f"{subject.triton_model}: no sample lies inside the profiles", "correct tools/engines/shapes.py")
    return samples


def _save(path: Path, samples: Sequence[Tensors]) -> None:
    arrays = {f"{number}:{name}": array for number, tensors in enumerate(samples) for name, array in tensors.items()}
    np.savez(path, **arrays)


def _distance(graph: str, name: str, found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return how far an output is off, 0 to 1. Problem when that is too far."""
    if found.shape != expected.shape:
        raise Problem(
            f"{graph}: '{name}' of the engine is {found.shape}, of the graph {expected.shape}", "do not use it"
        )
    if np.issubdtype(expected.dtype, np.integer):
        distance = 1.0 - float(np.mean(found == expected))
        allowed = 1.0 - LEAST_AGREEMENT
    else:
        length = float(np.linalg.norm(expected.astype(np.float64))) or 1.0
        distance, allowed = float(np.linalg.norm(found.astype(np.float64) - expected)) / length, MOST_DISTANCE
    if not distance <= allowed:
        raise Problem(
            f"{graph}: '{name}' of the engine is off by {distance:.3g}, {allowed:g} is allowed", "nothing was published"
        )
    return distance
