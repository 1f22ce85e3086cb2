"""`flotilla engines`: build, verify, list, prune, export and import the engines of the profiles."""

import errno
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.table import Table

from services.common.engines import TENSORRT, Engine, EngineCache, EngineError
from services.common.machine import Machine, this_machine
from services.common.manifest import Manifest, ManifestError, load_manifest
from services.common.model_store import ModelStore, ModelStoreError
from services.common.settings import load
from tools.cli.console import Problem, console
from tools.cli.settings import ToolSettings
from tools.engines import archive, builders, inspection, lint
from tools.engines.gate import DEFAULT_TOLERANCE, gate
from tools.engines.keys import BuildOptions, needs_builder
from tools.engines.pipeline import BEFORE_BUILD, Pipeline, Stage, announce, refusal
from tools.engines.prune import chosen_for_pruning, last_used, remove_damaged, remove_timing_caches
from tools.engines.publish import EnginePublisher
from tools.engines.subjects import Subject, subject, subjects
from tools.model_preparation.commands import DiskFullError
from tools.model_preparation.export_environment import ExportEnvironments

app = typer.Typer(no_args_is_help=True, help="Build, verify, list, prune, export and import engines. docs/engines.md.")

GIB, MEMORY_LIMIT_GIB, AUTOMATIC = 1 << 30, 16.0, "tensorrt-fp16"

Models = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL]...", help="Model ids or Triton names; default: all.")
]
Profiles = Annotated[list[str] | None, typer.Option("--profile", help="Execution profile; repeat it for more.")]
BuilderName = Annotated[str, typer.Option("--builder", help=f"One of {', '.join(builders.BUILDERS)}.")]
Python = Annotated[Path | None, typer.Option("--python", help="Interpreter that has the builder; default: find one.")]


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
    settings, manifest, store = _open()
    machine = this_machine()
    profiles = _profiles(profile, machine)
    limit = int((memory_limit or _memory_of(machine)) * GIB)
    options = BuildOptions(limit, version_compatible, hardware_compatibility, optimization_level)
    options.check(builder)
    compiled = [needs_builder(name) for name in profiles]  # all of them, so that a misspelt one is told at once
    cache = EngineCache(store.root)
    with _clear_failures(), EnginePublisher(cache).workplace() as workplace:
        chosen = _chosen(manifest, store, models)
        converting = _environments(workplace / "precision", settings)
        building = _environments(workplace / "builder", settings)
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
    with _clear_failures():
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
    _, manifest, store = _open()
    with _clear_failures():
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
    settings, manifest, store = _open()
    machine, cache = this_machine(), EngineCache(store.root)
    faults = [str(error) for error in cache.damaged()]
    with _clear_failures(), EnginePublisher(cache).workplace() as workplace:
        environments = _environments(workplace / "builder", settings)
        for engine in _engines(cache, models, None):
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
                console.print(f"{engine.model} {engine.key.profile} {engine.key.digest[:12]}: {proof}", markup=False)
            except (EngineError, Problem) as error:
                faults.append(str(error))
    if faults:
        raise Problem("; ".join(faults), "take damaged ones out: tools/flotilla engines prune --damaged")


@app.command("list")
def list_engines() -> None:
    """Show every engine of the cache.

    Example: tools/flotilla engines list
    """
    _, _, store = _open()
    cache = EngineCache(store.root)
    table = Table("engine", "graph, profile", "built by, for", "size", "state")
    for column in table.columns:
        column.no_wrap = True
    for engine in cache.all():
        key, ran = engine.key, engine.facts.get("verify", {}).get("ran")
        place = " ".join(part for part in (key.gpu_name, key.compute_capability, key.platform) if part) or "any machine"
        gate_passed = engine.gate.get("passed") is True
        table.add_row(
            f"{key.digest[:12]}\n{last_used(engine):%Y-%m-%d}",
            f"{key.triton_model}\n{key.profile}",
            f"{key.builder or 'graph for ONNX Runtime'}\n{place}",
            f"{engine.size / 1e6:.1f} MB",
            f"gate {'passed' if gate_passed else '[red]refused[/red]'}\n{'ran' if ran else 'not run'}",
        )
    console.print(table)
    for error in cache.damaged():
        console.print(f"damaged: {error}", style="red", markup=False)


@app.command("prune")
def prune(
    older_than: Annotated[float | None, typer.Option(min=0, help="Days without use.")] = None,
    max_size: Annotated[float | None, typer.Option(min=0, help="GB to keep at most; the longest unused go.")] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="What cannot be read or has a wrong digest.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="What builders measured, too.")] = False,
) -> None:
    """Take engines out of the cache by age, by size, or because they are damaged.

    Example: tools/flotilla engines prune --older-than 30 --max-size 5
    """
    if older_than is None and max_size is None and not damaged and not timing:
        raise Problem("nothing says what to prune", "add --older-than DAYS, --max-size GB, --damaged or --timing")
    _, _, store = _open()
    publisher = EnginePublisher(EngineCache(store.root))
    with _clear_failures(), publisher.lock("pruning"):
        for folder, reason in remove_damaged(publisher) if damaged else []:
            console.print(f"removed {folder.name[:12]}: {reason}", markup=False)
        age = timedelta(days=older_than) if older_than is not None else None
        size = int(max_size * 1e9) if max_size is not None else None
        for engine in chosen_for_pruning(publisher.cache.all(), age, size):
            publisher.remove(engine.folder)
            console.print(
                f"removed {engine.key.digest[:12]}: {engine.key.triton_model} {engine.key.profile}", markup=False
            )
        if timing:
            remove_timing_caches(publisher)
    kept = publisher.cache.all()
    console.print(f"kept {len(kept)} engines, {sum(engine.size for engine in kept) / 1e6:.1f} MB", markup=False)


@app.command("export")
def export_engines(
    to: Annotated[Path, typer.Argument(metavar="ARCHIVE.tar", help="File to write.")],
    models: Models = None,
    profile: Profiles = None,
) -> None:
    """Write engines to one file, for another machine of the same kind.

    Example: tools/flotilla engines export engines.tar efficientnet-lite0
    """
    _, _, store = _open()
    cache = EngineCache(store.root)
    with _clear_failures():
        engines = _engines(cache, models, profile)
        if not engines:
            raise Problem(
                f"there is nothing to export in {cache.root}", "tools/flotilla engines list shows what is there"
            )
        archive.write_archive(engines, to)
    console.print(f"{to}: {len(engines)} engines, {to.stat().st_size / 1e6:.1f} MB", markup=False)


@app.command("import")
def import_engines(origin: Annotated[Path, typer.Argument(metavar="ARCHIVE.tar", help="File of `export`.")]) -> None:
    """Take engines in from a file. Every digest is checked first; what the start refuses is said.

    Example: tools/flotilla engines import engines.tar
    """
    _, _, store = _open()
    publisher, machine = EnginePublisher(EngineCache(store.root)), this_machine()
    with _clear_failures():
        if not origin.is_file():
            raise Problem(f"there is no file {origin}", "name a file of `flotilla engines export`")
        with publisher.lock(f"importing {origin.name}"):
            imported = archive.read_archive(origin, publisher)
    for engine in imported:
        console.print(
            f"imported {engine.key.digest[:12]}: {engine.key.triton_model} {engine.key.profile}", markup=False
        )
        for difference in engine.key.differences(inspection.facts_of(machine)):
            console.print(f"  not for this machine: {difference}", markup=False)


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


def _chosen(manifest: Manifest, store: ModelStore, named: Sequence[str] | None) -> list[Subject]:
    """Return the graphs of models named by public id or Triton name; all when nothing is named."""
    known = subjects(manifest, store)
    if not named:
        return list(known)
    for name in named:
        if not any(name in (one.model_id, one.triton_model) for one in known):
            if name in manifest.models and store.model(name) is None:
                raise Problem(f"model '{name}' is not in the store {store.root}", f"run: tools/models fetch {name}")
            names = ", ".join(one.triton_model for one in known) or "none"
            raise Problem(f"no graph '{name}' can be made an engine", f"take one of: {names}")
    return [one for one in known if one.model_id in named or one.triton_model in named]


def _engines(cache: EngineCache, models: Sequence[str] | None, profiles: Sequence[str] | None) -> list[Engine]:
    return [
        engine
        for engine in cache.all()
        if (not models or engine.model in models or engine.key.triton_model in models)
        and (not profiles or engine.key.profile in profiles)
    ]


def _environments(scratch: Path, settings: ToolSettings) -> ExportEnvironments:
    scratch.mkdir()
    return ExportEnvironments(scratch, settings.torch_index_url, allow_cuda=False)


def _open() -> tuple[ToolSettings, Manifest, ModelStore]:
    settings = load(ToolSettings)
    try:
        manifest = load_manifest(settings.model_manifest)
    except ManifestError as error:
        raise Problem(str(error), "correct the manifest; docs/models.md explains it") from error
    return settings, manifest, ModelStore(settings.model_store.expanduser())


@contextmanager
def _clear_failures() -> Iterator[None]:
    """Turn what the cache and the store say into one clear line; a SIGTERM cleans up like Ctrl-C."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except (EngineError, ModelStoreError) as error:
        raise Problem(*str(error).split("; run: ", 1)) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(error.filename or "the engine cache") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
