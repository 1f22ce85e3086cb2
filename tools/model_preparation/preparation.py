"""Everything serving needs of a model, in the store: acquire the files, export, check, publish. Idempotent."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore, ModelStoreError, StoredModel
from services.common.settings import REPOSITORY_ROOT
from tools.cli.console import Problem
from tools.export import sentence_encoder
from tools.model_preparation.commands import DiskFullError, run
from tools.model_preparation.contract import check_artifacts
from tools.model_preparation.progress import step
from tools.model_preparation.sources import acquire
from tools.model_preparation.store_writer import StoreWriter
from tools.model_preparation.torch_environment import ENVIRONMENT_BYTES, torch_environment

EXPORTER_VERSIONS = {sentence_encoder.EXPORTER: sentence_encoder.EXPORTER_VERSION}
_EXPORT_MODULES = {sentence_encoder.EXPORTER: "tools.export.sentence_encoder"}
_REFUSED = 3


@dataclass(frozen=True, slots=True)
class Preparation:
    """Prepares models of one manifest in one store."""

    manifest: Manifest
    store: ModelStore
    torch_index_url: str | None = None
    allow_cuda: bool = False

    def fetch(self, model: Model) -> bool:
        """Make the model complete; False when it was so already, which needs neither network nor lock."""
        if is_complete(self.store, model):
            return False
        writer = StoreWriter(self.store)
        with writer.lock():
            if is_complete(self.store, model):
                return False
            self._prepare(writer, model, again=False)
        return True

    def export(self, model: Model) -> StoredModel:
        """Export the model again, whether the store has it or not."""
        writer = StoreWriter(self.store)
        with writer.lock():
            return self._prepare(writer, model, again=True)

    def _prepare(self, writer: StoreWriter, model: Model, *, again: bool) -> StoredModel:
        known, exported = _current(self.store, model), _exported(model)
        must_export = bool(exported) and (again or known is None or not _has(self.store, model.id, exported))
        _check_space(self.store.root, model, ENVIRONMENT_BYTES if must_export else 0)
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
                facts = self._export(model, kept, out, scratch)
                made |= {name: out / name for name in exported}
            else:
                facts = dict(known.recipe) if known else {}
                made |= self.store.require(model.id, exported) if known else {}
            with step(f"Checking the artifacts of {model.id} with the runtime that serves them"):
                check_artifacts(model, made)
            with step(f"Storing {model.id}"):
                stored = writer.publish(model.id, made, recipe(model, facts))
        writer.finish(model.id)
        return stored

    def _export(self, model: Model, source: Path, out: Path, scratch: Path) -> dict[str, Any]:
        """Run the model's exporter in the throw-away environment; returns the facts it wrote."""
        if model.exporter not in _EXPORT_MODULES or model.embedding is None:
            raise Problem(
                f"'{model.id}': there is no exporter '{model.exporter}'",
                f"use one of {', '.join(_EXPORT_MODULES)} in the manifest",
            )
        facts = model.embedding
        with torch_environment(scratch, self.torch_index_url, allow_cuda=self.allow_cuda) as python:
            command: list[str | Path] = ["env", "-u", "PYTHONPATH", "HF_HUB_OFFLINE=1", f"TMPDIR={scratch}"]
            command += ["PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore"]
            command += [python, "-m", _EXPORT_MODULES[model.exporter], "--source", source, "--out", out]
            command += ["--dimensions", str(facts.dimensions), "--max-tokens", str(facts.max_tokens)]
            with step(f"Exporting {model.id} and checking it against the original") as current:
                code, lines = run(command, current.show, cwd=REPOSITORY_ROOT)
            if code != 0:
                raise _export_failure(model, code, lines, out)
        return dict(json.loads((out / "facts.json").read_text(encoding="utf-8")))


def is_complete(store: ModelStore, model: Model) -> bool:
    """Whether the store has all that serving needs, made from what the manifest says now."""
    return _current(store, model) is not None and _has(store, model.id, model.required_artifacts)


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
    same_exporter = (stored.recipe.get("exporter"), stored.recipe.get("exporter_version")) == (
        model.exporter,
        EXPORTER_VERSIONS.get(model.exporter or ""),
    )
    return stored if same_sources and same_exporter else None


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
    if code == _REFUSED:
        return Problem(
            f"export of '{model.id}' {said[-1].strip()}",
            "nothing was stored; check the versions in constraints.txt and the source",
        )
    return Problem(
        f"the exporter of '{model.id}' failed: {said[-1].strip()}",
        "nothing was stored; run the command again, or import ready-made artifacts: tools/models import MODEL FOLDER",
    )
