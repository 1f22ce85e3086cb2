"""Models whose engine is several graphs made of one artifact: each goes through the stages, published together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.common.engines import EngineKey, canonical_json
from services.common.triton import model_config_pb2
from tools.cli.console import Problem
from tools.engines import lint, verify
from tools.engines.keys import Target, converted, needs_builder
from tools.engines.precision import PrecisionReport
from tools.engines.publish import EnginePublisher
from tools.engines.shapes import Profile, to_json
from tools.engines.subjects import Subject

if TYPE_CHECKING:
    from tools.engines.pipeline import Outcome, Pipeline


@dataclass(frozen=True, slots=True)
class Part:
    """One graph of a model."""

    name: str
    """Name of its file in the engine, without the ending."""
    subject: Subject
    profiles: tuple[Profile, ...]


@dataclass(frozen=True, slots=True)
class ComposedSubject(Subject):
    """A model whose `graph` is the artifact that its parts are made of; it is no ONNX file itself."""

    compose: Callable[[Path], Sequence[Part]]
    """Writes the graphs into a folder. Problem when that cannot be done."""
    shapes: Callable[[], tuple[tuple[Profile, ...], ...]]
    """Returns the optimisation profiles of all parts, which the engine's key has in it."""
    exporter: str
    """Name and version of what writes the graphs, which the key's recipe ends in."""
    takers: tuple[str, ...]
    """The profiles that take such an engine."""


def run(pipeline: Pipeline, subject: ComposedSubject, profile: str) -> Outcome:
    """Bring all graphs of a model through the stages. Problem says what stopped it; then nothing is published."""
    from tools.engines.pipeline import BEFORE_BUILD, Outcome, Stage, _check_room  # noqa: PLC0415 - it knows this module

    if profile not in subject.takers:
        raise Problem(
            f"'{subject.model_id}' takes no engine in profile '{profile}'",
            f"choose one of: {', '.join(subject.takers)}",
        )
    compiled, version = needs_builder(profile), ""
    if compiled and pipeline.stop_after not in BEFORE_BUILD:
        if pipeline.builder is None:
            raise Problem(f"profile '{profile}' is compiled, and no builder was chosen", "add --builder tensorrt")
        version = pipeline.builder.version()
    shapes = canonical_json([to_json(profiles) for profiles in subject.shapes()]).decode() if compiled else ""
    key = Target(version, pipeline.options, pipeline.machine).key(subject.triton_model, profile, shapes, subject.graph)
    publisher = EnginePublisher(pipeline.cache)
    with publisher.lock(f"building {subject.triton_model} {profile}"):
        there = pipeline._present(key)
        if there is not None and not pipeline.again and pipeline.stop_after is Stage.PUBLISH:
            return Outcome(subject.triton_model, profile, Stage.PUBLISH, there)
        _check_room(pipeline.cache.root, subject.graph)
        with publisher.scratch() as scratch:
            return _Composition(pipeline, subject, key, compiled, scratch).made(publisher)


@dataclass(frozen=True, slots=True)
class _Made:
    """What became of one part."""

    file: Path
    verdict: dict[str, Any]
    build: dict[str, Any]
    report: PrecisionReport | None


@dataclass(frozen=True, slots=True)
class _Composition:
    pipeline: Pipeline
    subject: ComposedSubject
    key: EngineKey
    compiled: bool
    scratch: Path

    def made(self, publisher: EnginePublisher) -> Outcome:
        from tools.engines.pipeline import Outcome, Stage  # noqa: PLC0415

        started, stop = time.monotonic(), self.pipeline.stop_after
        parts = self.subject.compose(self.scratch)
        made = {part.name: self._through(part) for part in parts}
        if stop is not Stage.PUBLISH:
            return Outcome(self.subject.triton_model, self.key.profile, stop)
        reports = [one.report for one in made.values() if one.report]
        builds = {name: one.build for name, one in made.items()}
        key = converted(self.key, reports[0] if reports else None)
        engine = publisher.publish(
            key.model_copy(update={"recipe": f"{key.recipe}; {self.subject.exporter}"}),
            self.subject.model_id,
            {f"{name}{one.file.suffix}": one.file for name, one in made.items()},
            gate={"passed": True, "parts": {name: one.verdict for name, one in made.items()}},
            facts={
                "build": builds,
                "verify": self._proof(),
                "precision": [report.to_json() for report in reports],
            },
            build_seconds=round(time.monotonic() - started, 3),
        )
        return Outcome(self.subject.triton_model, self.key.profile, Stage.PUBLISH, engine, built=True)

    def _proof(self) -> dict[str, Any]:
        if not self.compiled:
            return {"ran": True, "reason": "the gate ran it on ONNX Runtime"}
        if not self.pipeline.machine.gpus:
            return verify.not_run(self.pipeline.machine)
        return {"ran": False, "reason": "the service proves the plans at start, by a known window of speech"}

    def _through(self, part: Part) -> _Made:
        """Bring one part as far as the pipeline goes."""
        from tools.engines.pipeline import Stage, _Work  # noqa: PLC0415

        pipeline, scratch = self.pipeline, self.scratch / part.name
        scratch.mkdir()
        config = model_config_pb2.ModelConfig(name=part.subject.triton_model)  # no model of Triton by itself
        profiles = part.profiles if self.compiled else ()
        work = _Work(part.subject, self.key.profile, config, profiles, self.key, scratch, time.monotonic())
        stages = list(Stage)
        reach = stages.index(pipeline.stop_after)
        with pipeline._stage(work, Stage.LINT):
            lint.check(part.subject.graph)
        made = _Made(part.subject.graph, {}, {}, None)
        if reach >= stages.index(Stage.PRECISION):
            graph, report = pipeline._convert(work)
            made = replace(made, file=graph, report=report)
        if reach >= stages.index(Stage.GATE):
            made = replace(made, verdict=pipeline._judge(work, made.file))
        if reach >= stages.index(Stage.BUILD):
            file, facts = pipeline._build(work, made.file)
            made = replace(made, file=file, build=facts)
        return made
