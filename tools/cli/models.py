"""`tools/models`: fetch, list, verify, export and import the models of the manifest."""

import errno
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.table import Table

from services.common.manifest import Manifest, ManifestError, Model
from services.common.model_store import ModelStore, ModelStoreError, StoredModel
from tools.cli.console import Problem, console
from tools.cli.store import open_store
from tools.engines.language import gate_language_model
from tools.model_preparation.commands import DiskFullError
from tools.model_preparation.export_environment import export_environments
from tools.model_preparation.importing import import_artifacts
from tools.model_preparation.preparation import Preparation, is_complete, write_artifacts
from tools.model_preparation.store_writer import StoreWriter

app = typer.Typer(no_args_is_help=True, help="Fetch, list, verify, export and import models. See docs/models.md.")

AllowCuda = Annotated[
    bool, typer.Option("--allow-cuda-packages", help="Let the export install torch with CUDA packages (gigabytes).")
]
ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="Model id, for example all-minilm-l6-v2.")]


@app.command("fetch")
def fetch(
    models: Annotated[list[str] | None, typer.Argument(help="Model ids; default: all of the manifest.")] = None,
    service: Annotated[
        list[str] | None, typer.Option(help="All models of this service, for example vision; repeat it for more.")
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="Also what only this Triton backend needs, for example vllm.")
    ] = None,
    allow_cuda_packages: AllowCuda = False,
) -> None:
    """Download and export what serving needs. Does nothing, and needs no network, once the store is full.

    Example: tools/models fetch all-minilm-l6-v2, or: tools/models fetch --service llm --backend vllm
    """
    settings, manifest, store = open_store()
    with _clear_failures(store):
        chosen = _chosen(manifest, models, service)
        wanted = _backends(chosen, backend)
        fresh = Preparation(manifest, store, settings.torch_index_url, allow_cuda_packages, wanted).fetch(chosen)
        for model in chosen:
            console.print(f"{model.id}: {'ready' if model in fresh else 'already there'} in {store.root}", markup=False)


@app.command("list")
def list_models() -> None:
    """Show all models of the manifest, their licences, and whether the store has them.

    Example: tools/models list
    """
    _, manifest, store = open_store()
    table = Table("model", "service", "licence", "size", "state")
    with _clear_failures(store):
        for model in manifest.models.values():
            table.add_row(model.id, model.service, model.license, *_size_and_state(store, model))
    console.print(table)


@app.command("verify")
def verify(
    models: Annotated[list[str] | None, typer.Argument(help="Model ids; default: all of the manifest.")] = None,
) -> None:
    """Hash every artifact again. Damaged ones are taken out of the store, so that fetch makes them anew.

    Example: tools/models verify
    """
    _, manifest, store = open_store()
    with _clear_failures(store):
        damaged = [
            f"{name} of {model.id}" for model in _chosen(manifest, models) for name in _remove_damaged(store, model)
        ]
    if damaged:
        raise Problem(f"damaged and removed from the store: {', '.join(damaged)}", "run: tools/models fetch")


@app.command("export")
def export(
    model: ModelId,
    to: Annotated[Path | None, typer.Option(help="Folder to write the artifacts to as well, for `import`.")] = None,
    allow_cuda_packages: AllowCuda = False,
) -> None:
    """Export a model again from its source files, in a throw-away environment with torch.

    Example: tools/models export all-minilm-l6-v2 --to ./artifacts
    """
    settings, manifest, store = open_store()
    with _clear_failures(store):
        chosen = manifest.model(model)
        stored = Preparation(manifest, store, settings.torch_index_url, allow_cuda_packages).export(chosen)
        if to is not None:
            write_artifacts(store, stored, to)
    console.print(f"{model}: exported" + (f", artifacts in {to}" if to else ""), markup=False)


@app.command("gate")
def gate(
    model: ModelId,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="Share of a metric that may be lost.")] = 0.01,
    allow_cuda_packages: AllowCuda = False,
) -> None:
    """Hold a language model's artifacts against its best-precision weights: perplexity and greedy agreement.

    Example: tools/models gate smollm2-135m-instruct
    """
    settings, manifest, store = open_store()
    with _clear_failures(store), StoreWriter(store).scratch() as scratch:
        chosen = manifest.model(model)
        if chosen.llm is None:
            raise Problem(f"'{model}' is no language model", "other models: flotilla engines build --stop-after gate")
        with export_environments(scratch, settings.torch_index_url, allow_cuda=allow_cuda_packages) as environments:
            reports = gate_language_model(chosen, manifest, store, environments, tolerance)
    table = Table("profile", "metric", "original", "served", "loss", "samples", "")
    for name, report in reports.items():
        for one in report.metrics:
            verdict = ("lost too much" if one in report.failed else "ok") if one.decides else "told only"
            values = f"{one.reference:.5f}", f"{one.candidate:.5f}", f"{one.loss:.2%}", str(one.samples)
            table.add_row(name, one.name, *values, verdict)
    console.print(table)
    if refused := [name for name, report in reports.items() if not report.passed]:
        raise Problem(f"{', '.join(refused)} of '{model}' did not pass the gate", "do not serve it; export it again")


@app.command("import")
def import_model(
    model: ModelId,
    origin: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder or tar archive with the artifacts.")],
) -> None:
    """Store ready-made artifacts, for example of `export --to` on another machine. They are checked first.

    Example: tools/models import all-minilm-l6-v2 ./artifacts
    """
    _, manifest, store = open_store()
    with _clear_failures(store):
        import_artifacts(manifest.model(model), origin, store)
    console.print(f"{model}: imported into {store.root}", markup=False)


def _chosen(manifest: Manifest, ids: list[str] | None, services: list[str] | None = None) -> list[Model]:
    """Return the models named by id or by service, each once; all of the manifest when nothing is named."""
    if not ids and not services:
        return list(manifest.models.values())
    for service in services or ():
        if not manifest.for_service(service):
            known = ", ".join(dict.fromkeys(model.service for model in manifest.models.values()))
            raise Problem(f"the manifest has no model of a service '{service}'", f"services with models: {known}")
    named = {model_id: manifest.model(model_id) for model_id in ids or ()}
    named |= {model.id: model for service in services or () for model in manifest.for_service(service)}
    return list(named.values())


def _backends(models: Sequence[Model], names: list[str] | None) -> tuple[str, ...]:
    """Return the backends asked for. Problem for one that no artifact of the models is for."""
    known = {artifact.backend for model in models for artifact in model.artifacts.values() if artifact.backend}
    for name in names or ():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise Problem(f"no artifact is for a backend '{name}' alone", f"backends with such artifacts: {listed}")
    return tuple(names or ())


def _size_and_state(store: ModelStore, model: Model) -> tuple[str, str]:
    try:
        stored = store.model(model.id)
    except ModelStoreError:
        return "", "[red]damaged[/red]"
    if is_complete(store, model):
        return _size(stored), "[green]ready[/green]"
    return ("", "not fetched") if stored is None else (_size(stored), "[yellow]incomplete or outdated[/yellow]")


def _size(stored: StoredModel | None) -> str:
    return f"{sum(artifact.size for artifact in stored.artifacts.values()) / 1e6:.1f} MB" if stored else ""


def _remove_damaged(store: ModelStore, model: Model) -> list[str]:
    """Return what was damaged of a model, after removing it."""
    writer = StoreWriter(store)
    try:
        if store.model(model.id) is None:
            console.print(f"{model.id}: not fetched", markup=False)
            return []
        damaged = store.damaged(model.id)
    except ModelStoreError:
        with writer.lock(f"repairing {model.id}"):
            writer.discard_index(model.id)
        return ["the index"]
    if damaged:
        with writer.lock(f"repairing {model.id}"):
            writer.forget(model.id, damaged)
    else:
        console.print(f"{model.id}: every artifact is intact", markup=False)
    return damaged


@contextmanager
def _clear_failures(store: ModelStore) -> Iterator[None]:
    """Turn what the disk and the manifest say into one clear line; a SIGTERM cleans up like Ctrl-C."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except DiskFullError as error:
        raise DiskFullError(store.root) from error
    except (ManifestError, ModelStoreError) as error:
        raise Problem(str(error)) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(store.root) from error
        raise Problem(
            f"{error.filename or store.root}: {error.strerror or error}",
            "make the folder writable, or set FLOTILLA_MODEL_STORE to another one",
        ) from error
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
