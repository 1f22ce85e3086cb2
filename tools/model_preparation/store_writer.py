"""The write side of the model store: one writer at a time, nothing visible before it is whole and on disk."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.common.model_store import (
    INDEX_FORMAT,
    ModelStore,
    StoredArtifact,
    StoredModel,
    sha256_of,
)
from tools.cli.writer_lock import writer_lock


class StoreWriter:
    """Publishes artifacts into a store."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold the store's only writer lock (`writer_lock`); what a process left that died with it is removed."""
        with writer_lock(self.store.root / ".lock", purpose):
            self._sweep()
            yield

    def keep(self, model_id: str) -> Path:
        """Return the folder where verified source files wait for the export, also across interruptions."""
        folder = self.store.root / "staging" / model_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder on the store's filesystem that is gone afterwards."""
        parent = self.store.root / "staging"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, model_id: str, artifacts: Mapping[str, Path], recipe: Mapping[str, Any]) -> StoredModel:
        """Copy files into the store, then the index that names them and replaces the model's former one."""
        stored = {name: self._add_blob(path) for name, path in artifacts.items()}
        model = StoredModel(model_id, stored, dict(recipe))
        self._write_index(model)
        return model

    def forget(self, model_id: str, names: list[str]) -> None:
        """Take artifacts out of a model's index and delete their blobs."""
        stored = self.store.model(model_id)
        if stored is None:
            return
        kept = {name: artifact for name, artifact in stored.artifacts.items() if name not in names}
        self._write_index(StoredModel(model_id, kept, stored.recipe))
        for name in names:
            self.store.blob_path(stored.artifacts[name].digest).unlink(missing_ok=True)

    def discard_index(self, model_id: str) -> None:
        """Delete a model's index, so that the model is prepared again."""
        self.store.index_path(model_id).unlink(missing_ok=True)

    def finish(self, model_id: str) -> None:
        """Delete the source files that were kept for the export."""
        shutil.rmtree(self.store.root / "staging" / model_id, ignore_errors=True)

    def _add_blob(self, path: Path) -> StoredArtifact:
        digest, size = sha256_of(path), path.stat().st_size
        target = self.store.blob_path(digest)
        if not (target.is_file() and target.stat().st_size == size and sha256_of(target) == digest):
            with path.open("rb") as source:
                _write_atomically(target, source)
        return StoredArtifact(digest, size)

    def _write_index(self, model: StoredModel) -> None:
        document = {
            "format": INDEX_FORMAT,
            "model": model.id,
            "artifacts": {
                name: {"sha256": artifact.digest, "size": artifact.size} for name, artifact in model.artifacts.items()
            },
            "recipe": model.recipe,
        }
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(document, indent=2).encode() + b"\n")
            file.seek(0)
            _write_atomically(self.store.index_path(model.id), file)

    def _sweep(self) -> None:
        """Remove what killed predecessors left; safe, because the lock is held."""
        for folder in (self.store.root / "staging").glob("scratch-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.store.root / "blobs" / "sha256", self.store.root / "models"):
            for left in folder.glob(".partial-*"):
                left.unlink(missing_ok=True)


def _write_atomically(target: Path, source: Any) -> None:
    """Write to a temporary neighbour, sync it to disk, rename it into place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".partial-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
