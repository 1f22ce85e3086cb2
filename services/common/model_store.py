"""The content-addressed model store, as services see it: artifacts by model id and name. Read only.

Layout: `blobs/sha256/<digest>` and `models/<id>.json`, the index of a model. Nothing here downloads anything.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX_FORMAT = 1
_READ_BYTES = 1 << 20


class ModelStoreError(Exception):
    """The store lacks something or is damaged; one line that says what, and the command to run."""

    def __init__(self, message: str, model_id: str) -> None:
        super().__init__(f"{message}; run: tools/models fetch {model_id}")


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """Where an artifact lies: SHA-256 of its content and its size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The index of one model: its artifacts, and the recipe that says what they were made from."""

    id: str
    artifacts: Mapping[str, StoredArtifact]
    recipe: Mapping[str, Any]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


class ModelStore:
    """A store under one root folder, which may be empty, read-only or missing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob_path(self, digest: str) -> Path:
        """Path of the blob with that digest, whether it exists or not."""
        return self.root / "blobs" / "sha256" / digest

    def index_path(self, model_id: str) -> Path:
        """Path of the index of a model, whether it exists or not."""
        return self.root / "models" / f"{model_id}.json"

    def model(self, model_id: str) -> StoredModel | None:
        """Return the index of a model, None when the store does not know it. ModelStoreError when it is damaged."""
        path = self.index_path(model_id)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != INDEX_FORMAT:
                raise ModelStoreError(f"{path} has format {document['format']}, not {INDEX_FORMAT}", model_id)
            artifacts = {
                name: StoredArtifact(digest=str(entry["sha256"]), size=int(entry["size"]))
                for name, entry in document["artifacts"].items()
            }
            return StoredModel(model_id, artifacts, dict(document["recipe"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ModelStoreError(f"cannot read {path}: {error.strerror}", model_id) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelStoreError(f"the index {path} is damaged", model_id) from error

    def artifact(self, model_id: str, name: str) -> Path:
        """Return the path of an artifact, which is there in full length. ModelStoreError when it is not."""
        return self.require(model_id, [name])[name]

    def require(self, model_id: str, names: Iterable[str]) -> dict[str, Path]:
        """Return the paths of several artifacts by name. ModelStoreError names what is missing or cut short."""
        stored = self.model(model_id)
        if stored is None:
            raise ModelStoreError(f"model '{model_id}' is not in the store {self.root}", model_id)
        wanted = list(names)
        if faulty := [name for name in wanted if not self._is_whole(stored, name)]:
            raise ModelStoreError(f"{', '.join(faulty)} of '{model_id}' missing in the store {self.root}", model_id)
        return {name: self.blob_path(stored.artifacts[name].digest) for name in wanted}

    def damaged(self, model_id: str) -> list[str]:
        """Hash every artifact of a model and return the names of those that are missing or altered."""
        stored = self.model(model_id)
        if stored is None:
            return []
        return [
            name
            for name, artifact in stored.artifacts.items()
            if not self._is_whole(stored, name) or sha256_of(self.blob_path(artifact.digest)) != artifact.digest
        ]

    def _is_whole(self, stored: StoredModel, name: str) -> bool:
        artifact = stored.artifacts.get(name)
        if artifact is None:
            return False
        path = self.blob_path(artifact.digest)
        return path.is_file() and path.stat().st_size == artifact.size
