"""Ready-made artifacts from a folder or a tar archive, checked as strictly as our own."""

import tarfile
from pathlib import Path, PurePosixPath

from services.common.manifest import Model
from services.common.model_store import ModelStore, StoredModel, sha256_of
from tools.cli.console import Problem
from tools.model_preparation.contract import check_artifacts
from tools.model_preparation.preparation import recipe
from tools.model_preparation.progress import step
from tools.model_preparation.store_writer import StoreWriter


def import_artifacts(model: Model, origin: Path, store: ModelStore) -> StoredModel:
    """Check the artifacts in a folder or tar archive and publish them."""
    writer = StoreWriter(store)
    with writer.lock(f"importing {model.id}"), writer.scratch() as scratch:
        folder = origin if origin.is_dir() else _unpack(model, origin, scratch)
        artifacts = {name: folder / name for name in model.artifacts if (folder / name).is_file()}
        with step(f"Checking the artifacts of {model.id}"):
            check_artifacts(model, artifacts)
            _check_copies(model, artifacts)
        with step(f"Storing {model.id}"):
            return writer.publish(model.id, artifacts, {**recipe(model, {}), "origin": "import"})


def _check_copies(model: Model, artifacts: dict[str, Path]) -> None:
    """Refuse a copy of a source file that has another digest than the manifest knows."""
    for name, path in artifacts.items():
        source_file = model.artifacts[name].source_file
        if source_file and sha256_of(path) != model.file(source_file).sha256:
            raise Problem(f"{path} has a wrong digest and was refused", "take it from the model's own source")


def _unpack(model: Model, archive: Path, scratch: Path) -> Path:
    """Extract the files that are named like artifacts, from whatever folder of the archive."""
    folder = scratch / "import"
    folder.mkdir()
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                name = PurePosixPath(member.name).name
                content = packed.extractfile(member) if member.isfile() and name in model.artifacts else None
                if content is not None:
                    with (folder / name).open("wb") as out:
                        while block := content.read(1 << 20):
                            out.write(block)
    except FileNotFoundError as error:
        raise Problem(f"{archive}: no such file or folder", "name a folder or a tar archive of artifacts") from error
    except (tarfile.TarError, EOFError) as error:
        raise Problem(f"{archive} is neither a folder nor a readable tar archive", "pack the folder again") from error
    return folder
