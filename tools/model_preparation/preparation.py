"""Everything serving needs of a model, in the store: acquire the files, export, check, publish. Idempotent."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore, ModelStoreError, StoredModel
from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.export.command import REFUSED
from tools.export.exporters import EXPORTERS, Exporter
from tools.model_preparation.commands import DiskFullError, run
from tools.model_preparation.contract import check_artifacts
from tools.model_preparation.export_environment import ExportEnvironments, export_environments
from tools.model_preparation.progress import step
from tools.model_preparation.sources import acquire
from tools.model_preparation.store_writer import StoreWriter


@dataclass(frozen=True, slots=True)
class Preparation:
    """Prepares models of one manifest in one store."""

    manifest: Manifest
    store: ModelStore
    torch_index_url: str | None = None
    allow_cuda: bool = False
    backends: tuple[str, ...] = ()
    """Triton backends whose own artifacts are wanted, too."""

    def fetch(self, models: Sequence[Model]) -> list[Model]:
        """Make models complete and return those that were not. Full ones need neither network nor lock."""
        if not self._incomplete(models):
            return []
        writer = StoreWriter(self.store)
        with writer.lock("fetching models"), self._environments(writer) as environments:
            prepared = _by_environment(self._incomplete(models))
            for model in prepared:
                self._prepare(writer, environments, model, again=False)
        return prepared

    def export(self, model: Model) -> StoredModel:
        """Export the model again, whether the store has it or not."""
        writer = StoreWriter(self.store)
        with writer.lock(f"exporting {model.id}"), self._environments(writer) as environments:
            return self._prepare(writer, environments, model, again=True)

    def _incomplete(self, models: Sequence[Model]) -> list[Model]:
        return [model for model in models if not is_complete(self.store, model, self.backends)]

    @contextmanager
    def _environments(self, writer: StoreWriter) -> Iterator[ExportEnvironments]:
        with (
            writer.scratch() as scratch,
            export_environments(scratch, self.torch_index_url, allow_cuda=self.allow_cuda) as environments,
        ):
            yield environments

    def _prepare(
        self, writer: StoreWriter, environments: ExportEnvironments, model: Model, *, again: bool
    ) -> StoredModel:
        known = _current(self.store, model)
        wanted = {*model.artifacts_for(*self.backends), *(known.artifacts if known else ())}
        exported = [name for name in _exported(model) if name in wanted]
        must_export = bool(exported) and (again or known is None or not _has(self.store, model.id, exported))
        _check_space(self.store.root, model, environments.bytes_for(_exporter(model).environment) if must_export else 0)
        kept = writer.keep(model.id)
        with writer.scratch() as scratch:
            acquire(model, kept, scratch, self.manifest.folder)
            made = {
                name: kept / artifact.source_file
                for name, artifact in model.artifacts.items()
                if artifact.source_file and (kept / artifact.source_file).is_file()
            }
            if must_export:
                out = scratch / "out"
                out.mkdir()
                facts = _run_exporter(environments, model, exported, kept, out)
                made |= {name: out / name for name in exported if (out / name).is_file()}
            else:
                facts = dict(known.recipe) if known else {}
                made |= self.store.require(model.id, exported) if known else {}
            with step(f"Checking the artifacts of {model.id} with the runtime that serves them"):
                check_artifacts(model, made)
            with step(f"Storing {model.id}"):
                stored = writer.publish(model.id, made, recipe(model, facts))
        writer.finish(model.id)
        return stored


def _run_exporter(
    environments: ExportEnvironments, model: Model, artifacts: Sequence[str], source: Path, out: Path
) -> dict[str, Any]:
    """Run the model's exporter in its environment; returns the facts it wrote, with its name and version."""
    exporter = _exporter(model)
    python = environments.interpreter(exporter.environment)
    command: list[str | Path] = ["env", "-u", "PYTHONPATH", "HF_HUB_OFFLINE=1", f"TMPDIR={out.parent}"]
    command += ["PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore"]
    command += [python, "-m", exporter.module, "--source", source, "--out", out]
    command += ["--facts", _facts_of(model), "--artifacts", *artifacts]
    with step(f"Exporting {model.id} and checking it against the original") as current:
        code, lines = run(command, current.show, cwd=REPOSITORY_ROOT)
    if code != 0:
        raise _export_failure(model, code, lines, out)
    written = dict(json.loads((out / "facts.json").read_text(encoding="utf-8")))
    return {"exporter": exporter.name, "exporter_version": exporter.version, **written}


def is_complete(store: ModelStore, model: Model, backends: Iterable[str] = ()) -> bool:
    """Whether the store has all that serving needs, with these backends too, made from what the manifest says now."""
    return _current(store, model) is not None and _has(store, model.id, model.artifacts_for(*backends))


def recipe(model: Model, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the artifacts were made from and by what."""
    return {
        **facts,
        "license": model.license,
        "sources": {file.name: file.sha256 for file in model.files},
    }


def write_artifacts(store: ModelStore, stored: StoredModel, folder: Path) -> None:
    """Copy the artifacts of a model into a folder that `import` accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, artifact in stored.artifacts.items():
        shutil.copyfile(store.blob_path(artifact.digest), folder / name)


def _current(store: ModelStore, model: Model) -> StoredModel | None:
    """Return the index of the model unless it is absent, damaged, or from an older manifest or exporter."""
    try:
        stored = store.model(model.id)
    except ModelStoreError:
        return None
    if stored is None:
        return None
    copies = {name: model.file(a.source_file).sha256 for name, a in model.artifacts.items() if a.source_file}
    if any(stored.artifacts[name].digest != digest for name, digest in copies.items() if name in stored.artifacts):
        return None
    if stored.recipe.get("origin") == "import":
        return stored
    same_sources = stored.recipe.get("sources") == {file.name: file.sha256 for file in model.files}
    exporter = EXPORTERS.get(model.exporter or "")
    made_by = (stored.recipe.get("exporter"), stored.recipe.get("exporter_version"))
    same_exporter = made_by == (model.exporter, exporter.version if exporter else None)
    return stored if same_sources and same_exporter else None


def _exporter(model: Model) -> Exporter:
    if model.exporter not in EXPORTERS:
        raise Problem(
            f"'{model.id}': there is no exporter '{model.exporter}'",
            f"use one of {', '.join(EXPORTERS)} in the manifest",
        )
    return EXPORTERS[model.exporter]


def _facts_of(model: Model) -> str:
    """Return the table of facts for the model's service as JSON."""
    facts = getattr(model, model.service, None)
    return "{}" if facts is None else str(facts.model_dump_json())


def _by_environment(models: Iterable[Model]) -> list[Model]:
    """Bring models of one environment together, so that it is built once; the order is else that of the manifest."""
    groups: dict[str | None, list[Model]] = {}
    for model in models:
        environment = _exporter(model).environment if model.exporter else None
        groups.setdefault(environment, []).append(model)
    return [model for group in groups.values() for model in group]


def _exported(model: Model) -> list[str]:
    return [name for name, artifact in model.artifacts.items() if artifact.exporter]


def _has(store: ModelStore, model_id: str, names: Iterable[str]) -> bool:
    try:
        store.require(model_id, names)
    except ModelStoreError:
        return False
    return True


def _check_space(root: Path, model: Model, environment_bytes: int) -> None:
    """Refuse early when the disk cannot hold the files, the download, the artifacts and the environment at once."""
    needed = 3 * sum(file.size for file in model.files) + environment_bytes
    free = shutil.disk_usage(root).free
    if free < needed:
        message = f"preparing '{model.id}' takes {needed / 1e9:.1f} GB for a short time; {free / 1e9:.1f} GB are free"
        raise Problem(f"{message} in {root}", DiskFullError(root).next_step)


def _export_failure(model: Model, code: int, lines: list[str], out: Path) -> Problem:
    if any("No space left on device" in line for line in lines):
        return DiskFullError(out)
    said = [line for line in lines if line.strip()] or [f"exit code {code}"]
    if code == REFUSED:
        return Problem(
            f"export of '{model.id}' {said[-1].strip()}",
            "nothing was stored; check the versions in constraints.txt and the source",
        )
    return Problem(
        f"the exporter of '{model.id}' failed: {said[-1].strip()}",
        "nothing was stored; run the command again, or import ready-made artifacts: tools/models import MODEL FOLDER",
    )
