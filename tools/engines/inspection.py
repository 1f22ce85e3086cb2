"""A published engine looked at again: its files, its key against this machine, its outputs where there is a GPU."""

from pathlib import Path

from services.common.engines import Engine, EngineKey
from services.common.machine import Machine
from services.common.manifest import Manifest
from services.common.model_store import ModelStore, sha256_of
from services.common.profile_choice import machine_fields
from services.common.profiles import parse_profile
from tools.engines import verify
from tools.engines.builders import open_builder
from tools.engines.configurations import configuration
from tools.engines.precision import Interpreter, convert, precision_of
from tools.engines.shapes import from_json
from tools.engines.subjects import Subject, subject


def inspect(
    engine: Engine,
    manifest: Manifest,
    store: ModelStore,
    machine: Machine,
    *,
    python: Path | None,
    interpreter: Interpreter,
    workplace: Path,
) -> str:
    """Return in one line what was proven of an engine, and what not. EngineError or Problem when it is not in order."""
    engine.check_files()
    engine.check_gate()
    origin = subject(engine.key.triton_model, manifest, store)
    if sha256_of(origin.graph) != engine.key.source_sha256:
        return "whole, but stale: the model store has another graph now"
    config = configuration(manifest.model(origin.model_id), origin.triton_model, engine.key.profile)
    facts, proven = engine.facts["build"], "files whole, gate passed"
    if len(engine.files) == 1:  # the graphs of an engine of several have tensors that only its model knows
        verify.check_contract(config, facts["inputs"], facts["outputs"])
        proven += ", tensors as in the contract"
    if not engine.key.shapes:
        return proven
    if differences := engine.key.differences(facts_of(machine, engine.key)):
        return f"{proven}; not for this machine: {'; '.join(differences)}"
    if not machine.gpus:
        return f"{proven}; {verify.not_run(machine)['reason']}"
    if len(engine.files) != 1:
        return f"{proven}; not run: its service proves it at every start"
    return f"{proven}; {_run(engine, origin, python, interpreter, workplace)}"


def facts_of(machine: Machine, key: EngineKey) -> dict[str, str]:
    """Return the fields of this key that a machine knows of itself; only the platform for an unknown profile."""
    profile = parse_profile(key.profile)
    return {"platform": machine.platform} if profile is None else machine_fields(machine, profile)


def _run(engine: Engine, origin: Subject, python: Path | None, interpreter: Interpreter, workplace: Path) -> str:
    """Run the engine against its graph, which is converted again: the same inputs give the same bytes."""
    builder = open_builder(engine.key.builder.partition(" ")[0], python, interpreter, workplace)
    precision, graph = precision_of(engine.key.profile), origin.graph
    if precision is not None:
        graph = workplace / "verified.onnx"
        convert(origin, precision, graph, interpreter, lambda _line: None)
    proof = verify.prove(
        builder,
        engine.path(next(iter(engine.files))),
        graph,
        origin,
        profiles=from_json(engine.key.shapes),
        scratch=workplace,
        show=lambda _line: None,
    )
    return f"{proof['samples']} samples agree on {proof['gpu']} to {proof['largest_distance']:.2g}"
