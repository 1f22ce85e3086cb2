"""From a graph of the store to an engine of the cache: lint, precision, gate, build, verify, publish.

Every stage is a module that works alone; here they are put together, with progress, and nothing is published unless all
of them passed.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import onnxruntime

from services.common.engines import Engine, EngineCache, EngineDamagedError, EngineKey
from services.common.machine import Machine
from services.common.manifest import Manifest
from services.common.model_store import sha256_of
from services.common.triton import model_config_pb2
from tools.cli.console import Problem, console
from tools.engines import composed, lint, verify
from tools.engines.builders import PLAN_FILE, Builder
from tools.engines.configurations import configuration
from tools.engines.gate import DEFAULT_TOLERANCE, GateReport, gate
from tools.engines.keys import BuildOptions, Target, converted, needs_builder, recipe_known
from tools.engines.precision import Interpreter, PrecisionReport, convert, precision_of
from tools.engines.publish import EnginePublisher
from tools.engines.shapes import Profile, optimisation_profiles, to_json
from tools.engines.subjects import Subject
from tools.engines.tensorrt import BuildRequest
from tools.model_preparation.commands import DiskFullError
from tools.model_preparation.progress import Step, step

GRAPH_FILE = "model.onnx"
_ROOM = 6
"""Room on the disk that building takes for a short time, in sizes of the graph."""


class Stage(StrEnum):
    """The stages in their order."""

    LINT = "lint"
    PRECISION = "precision"
    GATE = "gate"
    BUILD = "build"
    VERIFY = "verify"
    PUBLISH = "publish"


BEFORE_BUILD = (Stage.LINT, Stage.PRECISION, Stage.GATE)
"""Stages that need no builder."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one graph and profile."""

    triton_model: str
    profile: str
    reached: Stage
    engine: Engine | None = None
    """Set where it is in the cache."""
    built: bool = False
    """Whether this run made it; it was there already otherwise."""


@dataclass(frozen=True, slots=True)
class _Work:
    """One graph on its way."""

    subject: Subject
    profile: str
    config: model_config_pb2.ModelConfig
    profiles: tuple[Profile, ...]
    key: EngineKey
    scratch: Path
    started: float


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Builds engines of one store for one machine. `builder` is None where only graphs for ONNX Runtime are made."""

    manifest: Manifest
    cache: EngineCache
    machine: Machine
    options: BuildOptions
    builder: Builder | None
    interpreter: Interpreter
    """Gives environments to the recipes of the precision stage."""
    tolerance: float = DEFAULT_TOLERANCE
    stop_after: Stage = Stage.PUBLISH
    again: bool = False
    """Build although the cache has the engine."""
    keep: Path | None = None
    """Folder that gets what the last stage made."""

    def run(self, subject: Subject, profile: str) -> Outcome:
        """Bring one graph through the stages. Problem says in one line what stopped it; then nothing is published."""
        if isinstance(subject, composed.ComposedSubject):
            return composed.run(self, subject, profile)
        compiled = needs_builder(profile)
        config = configuration(self.manifest.model(subject.model_id), subject.triton_model, profile)
        profiles = optimisation_profiles(config) if compiled else ()
        version = ""
        if compiled and self.stop_after not in BEFORE_BUILD:
            if self.builder is None:
                raise Problem(f"profile '{profile}' is compiled, and no builder was chosen", "add --builder tensorrt")
            version = self.builder.version()
        target = Target(version, self.options, self.machine)
        key = target.key(subject.triton_model, profile, to_json(profiles) if compiled else "", subject.graph)
        publisher = EnginePublisher(self.cache)
        with publisher.lock(f"building {subject.triton_model} {profile}"):
            there = self._present(key)
            if there is not None and not self.again and self.stop_after is Stage.PUBLISH:
                return Outcome(subject.triton_model, profile, Stage.PUBLISH, there)
            _check_room(self.cache.root, subject.graph)
            with publisher.scratch() as scratch:
                work = _Work(subject, profile, config, profiles, key, scratch, time.monotonic())
                return self._stages(work, publisher)

    def _stages(self, work: _Work, publisher: EnginePublisher) -> Outcome:
        def reached(stage: Stage, engine: Engine | None = None) -> Outcome:
            return Outcome(work.subject.triton_model, work.profile, stage, engine, built=engine is not None)

        with self._stage(work, Stage.LINT):
            lint.check(work.subject.graph)
        if self.stop_after is Stage.LINT:
            return reached(Stage.LINT)
        graph, report = self._convert(work)
        if self.stop_after is Stage.PRECISION:
            return reached(Stage.PRECISION)
        verdict = self._judge(work, graph)
        if self.stop_after is Stage.GATE:
            return reached(Stage.GATE)
        file, facts = self._build(work, graph)
        if self.stop_after is Stage.BUILD:
            return reached(Stage.BUILD)
        proof = self._verify(work, graph, file, facts)
        if self.stop_after is Stage.VERIFY:
            return reached(Stage.VERIFY)
        with self._stage(work, Stage.PUBLISH):
            engine = publisher.publish(
                converted(work.key, report),
                work.subject.model_id,
                {file.name: file},
                gate=verdict,
                facts={"build": facts, "verify": proof, "precision": report.to_json() if report else None},
                build_seconds=round(time.monotonic() - work.started, 3),
            )
        return reached(Stage.PUBLISH, engine)

    def _convert(self, work: _Work) -> tuple[Path, PrecisionReport | None]:
        precision, out = precision_of(work.profile), work.scratch / GRAPH_FILE
        if precision is None:
            shutil.copyfile(work.subject.graph, out)
            return out, None
        with self._stage(work, Stage.PRECISION) as current:
            report = convert(work.subject, precision, out, self.interpreter, current.show)
            self._hand_over(work, out)
        return out, report

    def _judge(self, work: _Work, graph: Path) -> dict[str, Any]:
        if sha256_of(graph) == work.key.source_sha256:
            return {"passed": True, "reason": "it is the graph of the store itself"}
        with self._stage(work, Stage.GATE) as current:
            report = gate(work.subject, graph, self.tolerance, current.show)
        if not report.passed:
            raise Problem(refusal(report), "nothing was published; docs/engines.md says what can be done")
        return report.to_json()

    def _build(self, work: _Work, graph: Path) -> tuple[Path, dict[str, Any]]:
        if not work.profiles or self.builder is None:
            return graph, {"builder": "none: ONNX Runtime executes the graph", **_signatures(graph)}
        out, builder = work.scratch / PLAN_FILE[self.builder.name], self.builder.version()
        gpu = self.machine.gpus[0].name if self.machine.gpus else "no gpu"
        request = BuildRequest(
            builder=self.builder.name,
            graph=str(graph),
            out=str(out),
            profiles=[
                {name: [one.least, one.tuned, one.greatest] for name, one in ranges.items()} for ranges in work.profiles
            ],
            timing_cache=str(EnginePublisher(self.cache).timing_cache(builder, gpu)),
            **asdict(self.options.for_profile(work.profile)),
        )
        with self._stage(work, Stage.BUILD) as current:
            facts = self.builder.build(request, current.show)
            self._hand_over(work, out)
        return out, facts

    def _verify(self, work: _Work, graph: Path, file: Path, facts: dict[str, Any]) -> dict[str, Any]:
        with self._stage(work, Stage.VERIFY) as current:
            verify.check_contract(work.config, facts["inputs"], facts["outputs"])
            if not work.profiles or self.builder is None:
                return {"ran": True, "reason": "the gate ran it on ONNX Runtime"}
            if not self.machine.gpus:
                return verify.not_run(self.machine)
            return verify.prove(
                self.builder,
                file,
                graph,
                work.subject,
                profiles=work.profiles,
                scratch=work.scratch,
                show=current.show,
            )

    def _present(self, key: EngineKey) -> Engine | None:
        """Return a whole engine whose key agrees in all that is known before the graph is converted."""
        known = {name: value for name, value in key.model_dump().items() if value}
        recipe = recipe_known(key)
        for engine in self.cache.all():
            own = engine.key.model_dump()
            if own["recipe"].startswith(recipe) and all(own[name] == value for name, value in known.items()):
                try:
                    engine.check_files()
                except EngineDamagedError as error:
                    console.print(f"{error.args[0].partition('; run: ')[0]}; it is built again", markup=False)
                    return None
                return engine
        return None

    def _hand_over(self, work: _Work, made: Path) -> None:
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, self.keep / f"{work.subject.triton_model}.{work.profile}.{made.name}")

    @contextmanager
    def _stage(self, work: _Work, stage: Stage) -> Iterator[Step]:
        number = list(Stage).index(stage) + 1
        title = f"{work.subject.triton_model} {work.profile}: {stage} ({number} of {len(Stage)})"
        with step(title) as current:
            yield current


def refusal(report: GateReport) -> str:
    """Return in one line why the gate refused a graph, and where it leaves the reference."""
    if report.fault:
        return f"{report.triton_model}: the gate refused the graph: {report.fault}"
    lost = "; ".join(
        f"{one.name} {one.candidate:.4f} instead of {one.reference:.4f} (loses {100 * one.loss:.1f} %)"
        for one in report.failed
    )
    said = f"{report.triton_model}: the gate refused the graph: {lost or 'nothing was measured'}"
    if report.divergence is None:
        return said
    place = report.divergence
    return f"{said}; it diverges at '{place.tensor}' ({place.operator}), relative error {place.error:.3g}"


def _check_room(root: Path, graph: Path) -> None:
    """Refuse early when the disk cannot hold what building writes."""
    needed, free = _ROOM * graph.stat().st_size, shutil.disk_usage(root).free
    if free < needed:
        said = f"building takes {needed / 1e9:.2f} GB in {root} for a short time; {free / 1e9:.2f} GB are free"
        raise Problem(said, DiskFullError(root).next_step)


def _signatures(graph: Path) -> dict[str, Any]:
    """Return the tensors of a graph as verify compares them."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    kserve = {"float": "FP32", "float16": "FP16", "double": "FP64"}

    def signature(tensor: Any) -> list[Any]:
        kind = tensor.type.removeprefix("tensor(").removesuffix(")")
        return [kserve.get(kind, kind.upper()), [side if isinstance(side, int) else -1 for side in tensor.shape]]

    return {
        "inputs": {tensor.name: signature(tensor) for tensor in session.get_inputs()},
        "outputs": {tensor.name: signature(tensor) for tensor in session.get_outputs()},
    }


def announce(outcome: Outcome) -> None:
    """Say what came of a graph."""
    name = f"{outcome.triton_model} {outcome.profile}"
    if outcome.engine is None:
        console.print(f"{name}: stopped after {outcome.reached}; nothing was published", markup=False)
        return
    engine = outcome.engine
    what = f"{engine.key.builder or 'graph for ONNX Runtime'}, {engine.size / 1e6:.1f} MB, {engine.folder}"
    console.print(f"{name}: {'published' if outcome.built else 'already there'}: {what}", markup=False)
    if not engine.serves_in_triton:
        console.print("  It is no plan file of TensorRT: Triton does not serve it.", markup=False)
    if outcome.built and engine.facts.get("verify", {}).get("ran") is False:
        console.print(f"  {engine.facts['verify']['reason']}.", markup=False)
