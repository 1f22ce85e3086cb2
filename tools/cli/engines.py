"""`flotilla engines`: build, verify, list, prune, export and import the engines of the profiles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.common.engines import TENSORRT, EngineCache, EngineError
from services.common.machine import Machine, this_machine
from tools.cli import engine_cache, engine_measuring
from tools.cli.console import Problem, console
from tools.cli.engine_options import (
    BuilderName,
    Models,
    Profiles,
    Python,
    chosen_engines,
    chosen_subjects,
    clear_failures,
    environments_in,
)
from tools.cli.store import open_store
from tools.engines import builders, inspection, lint
from tools.engines.gate import DEFAULT_TOLERANCE, gate
from tools.engines.keys import BuildOptions, needs_builder
from tools.engines.pipeline import BEFORE_BUILD, Pipeline, Stage, announce, refusal
from tools.engines.publish import EnginePublisher
from tools.engines.subjects import Subject, subject
from tools.model_preparation.commands import DiskFullError

app = typer.Typer(no_args_is_help=True, help="Build, verify, list, prune, export and import engines. docs/engines.md.")

GIB, MEMORY_LIMIT_GIB, AUTOMATIC = 1 << 30, 16.0, "tensorrt-fp16"


@app.command("build")
def build(
    models: Models = None,
    *,
    profile: Profiles = None,
    builder: BuilderName = TENSORRT,
    python: Python = None,
    stop_after: Annotated[Stage, typer.Option(help="Last stage to run.")] = Stage.PUBLISH,
    keep: Annotated[Path | None, typer.Option(help="Folder that also gets the converted graphs and engines.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the task's metric that the gate lets go.")
    ] = DEFAULT_TOLERANCE,
    memory_limit: Annotated[
        float | None, typer.Option(min=0.01, help="GiB that an engine's largest profile may take; default: the GPU's.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option(help="Plans that later TensorRT of this major version run.")
    ] = False,
    hardware_compatibility: Annotated[str, typer.Option(help="none, same-compute-capability, ampere-plus.")] = "none",
    optimization_level: Annotated[int, typer.Option(help="0: fast builds ... 5: fast engines.")] = 3,
    again: Annotated[bool, typer.Option(help="Build although the cache has the engine.")] = False,
) -> None:
    """Make engines: lint, precision, gate, build, verify, publish. A graph that fails a stage is not published.

    Example: tools/flotilla engines build efficientnet-lite0 --profile cpu-int8
    """
    settings, manifest, store = open_store()
    machine = this_machine()
    profiles = _profiles(profile, machine)
    limit = int((memory_limit or _memory_of(machine)) * GIB)
    options = BuildOptions(limit, version_compatible, hardware_compatibility, optimization_level)
    options.check(builder)
    compiled = [needs_builder(name) for name in profiles]  # all of them, so that a misspelt one is told at once
    cache = EngineCache(store.root)
    with clear_failures(), EnginePublisher(cache).workplace() as workplace:
        chosen = chosen_subjects(manifest, store, models)
        converting = environments_in(workplace / "precision", settings)
        building = environments_in(workplace / "builder", settings)
        wanted = any(compiled) and stop_after not in BEFORE_BUILD
        tool = builders.open_builder(builder, python, building.interpreter, workplace) if wanted else None
        pipeline = Pipeline(
            manifest,
            cache,
            machine,
            options,
            tool,
            converting.interpreter,
            tolerance=tolerance,
            stop_after=stop_after,
            again=again,
            keep=keep,
        )
        _build_all(pipeline, chosen, profiles)


@app.command("lint")
def lint_graph(
    graph: Annotated[Path, typer.Argument(metavar="GRAPH.onnx", help="Any ONNX file.")],
) -> None:
    """Look for faults that builders report badly. Changes nothing.

    Example: tools/flotilla engines lint my-model.onnx
    """
    with clear_failures():
        lint.check(graph)
    console.print(f"{graph}: no faults", markup=False)


@app.command("gate")
def gate_graph(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Triton name of the graph it shall replace.")],
    candidate: Annotated[Path, typer.Argument(metavar="CANDIDATE.onnx", help="A converted graph.")],
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the metric it may lose.")
    ] = DEFAULT_TOLERANCE,
) -> None:
    """Judge a converted graph on real data by its task's metric. Exit status 1 when it is refused.

    Example: tools/flotilla engines gate efficientnet_lite0 quantised.onnx
    """
    _, manifest, store = open_store()
    with clear_failures():
        if not candidate.is_file():
            raise Problem(f"there is no file {candidate}", "name an ONNX file")
        report = gate(subject(model, manifest, store), candidate, tolerance, lambda _line: None)
    table = Table("metric", "store", "candidate", "loss", "samples")
    for metric in report.metrics:
        numbers = (f"{metric.reference:.4f}", f"{metric.candidate:.4f}", f"{100 * metric.loss:.2f} %")
        table.add_row(metric.name + ("" if metric.decides else " (told only)"), *numbers, str(metric.samples))
    console.print(table)
    if not report.passed:
        raise Problem(refusal(report), "keep the profile you have, or convert it in another way")
    console.print(f"{model}: passed", markup=False)


@app.command("verify")
def verify_engines(models: Models = None, python: Python = None) -> None:
    """Hash every engine again, hold it against this machine, and run it where there is a GPU.

    Example: tools/flotilla engines verify
    """
    settings, manifest, store = open_store()
    machine, cache = this_machine(), EngineCache(store.root)
    faults = [str(error) for error in cache.damaged()]
    with clear_failures(), EnginePublisher(cache).workplace() as workplace:
        environments = environments_in(workplace / "builder", settings)
        for engine in chosen_engines(cache, models, None):
            try:
                proof = inspection.inspect(
                    engine,
                    manifest,
                    store,
                    machine,
                    python=python,
                    interpreter=environments.interpreter,
                    workplace=workplace,
                )
                console.print(
                    f"{engine.key.triton_model} {engine.key.profile} {engine.key.digest[:12]}: {proof}", markup=False
                )
            except (EngineError, Problem) as error:
                faults.append(str(error))
    if faults:
        raise Problem("; ".join(faults), "take damaged ones out: tools/flotilla engines prune --damaged")


app.command("list")(engine_cache.list_engines)
app.command("prune")(engine_cache.prune)
app.command("export")(engine_cache.export_engines)
app.command("import")(engine_cache.import_engines)
app.command("measure")(engine_measuring.measure)


def _build_all(pipeline: Pipeline, chosen: Sequence[Subject], profiles: Sequence[str]) -> None:
    """Build each; a refused one does not keep the others from being built."""
    refused: list[Problem] = []
    count = len(chosen) * len(profiles)
    for one in chosen:
        for profile in profiles:
            try:
                announce(pipeline.run(one, profile))
            except DiskFullError:
                raise
            except Problem as problem:
                if count == 1:
                    raise
                refused.append(problem)
                console.print(f"{one.triton_model} {profile}: {problem.message}", style="red", markup=False)
    if refused:
        raise Problem(
            f"{len(refused)} of {count} engines were not built; the lines above say why", refused[0].next_step
        )


def _profiles(named: Sequence[str] | None, machine: Machine) -> list[str]:
    if named:
        return list(dict.fromkeys(named))
    if machine.gpus:
        return [AUTOMATIC]
    raise Problem(
        "there is no NVIDIA GPU, so no profile that would be built by itself",
        "name one: --profile cpu-int8, or --profile tensorrt-fp16 --builder tensorrt-rtx",
    )


def _memory_of(machine: Machine) -> float:
    return machine.least_gpu_memory / GIB or MEMORY_LIMIT_GIB
