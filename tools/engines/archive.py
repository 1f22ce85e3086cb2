"""Engines as one tar file, for other machines of the same kind: `<digest>/engine.json` and the files beside it."""

import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from services.common.engines import SIDECAR, SIDECAR_MAX_BYTES, Engine, EngineDamagedError
from tools.cli.console import Problem
from tools.engines.publish import EnginePublisher

_MEMBER = re.compile(r"(?P<digest>[0-9a-f]{64})/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,199})")
_NEXT = "nothing of it was imported; export it again with: tools/flotilla engines export"


def write_archive(engines: Sequence[Engine], target: Path) -> None:
    """Write engines, checked first, to a tar file, which appears when it is complete."""
    partial = target.with_name(f".partial-{target.name}")
    try:
        with tarfile.open(partial, "w") as archive:
            for engine in engines:
                engine.check_files()
                for name in (SIDECAR, *engine.files):
                    archive.add(engine.path(name), f"{engine.key.digest}/{name}", recursive=False)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_archive(origin: Path, publisher: EnginePublisher) -> list[Engine]:
    """Publish every engine of a tar file, or none. The caller holds the lock.

    Problem for anything but plain files in folders named by digest, and where a digest does not agree.
    """
    with publisher.scratch() as scratch:
        try:
            with tarfile.open(origin, "r:") as archive:
                _extract(archive, scratch)
        except tarfile.TarError as error:
            raise Problem(f"{origin} is no tar file, or cut short ({error})", _NEXT) from error
        folders = sorted(path for path in scratch.iterdir() if path.is_dir())
        if not folders:
            raise Problem(f"{origin} has no engines", _NEXT)
        try:
            for folder in folders:
                _check(publisher, folder)
        except EngineDamagedError as error:
            said = str(error).partition("; run: ")[0].replace(f"{scratch}/", "")
            raise Problem(f"{origin}: {said}", _NEXT) from error
        return [publisher.adopt(folder) for folder in folders]


def _extract(archive: tarfile.TarFile, scratch: Path) -> None:
    for member in archive:
        found = _MEMBER.fullmatch(member.name)
        if found is None or not member.isfile():
            raise Problem(f"the archive has {member.name[:200]!r}, which is no file of an engine; refused", _NEXT)
        target = scratch / found["digest"] / found["name"]
        if target.exists():
            raise Problem(f"the archive has {member.name!r} twice; refused", _NEXT)
        if found["name"] == SIDECAR and member.size > SIDECAR_MAX_BYTES:
            raise Problem(f"{member.name}: a sidecar of {member.size} bytes; refused", _NEXT)
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101  # it is a plain file
        target.parent.mkdir(exist_ok=True)
        _copy(content, target)


def _copy(content: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def _check(publisher: EnginePublisher, folder: Path) -> None:
    engine = publisher.cache.read(folder)
    engine.check_files()
    if surplus := {path.name for path in folder.iterdir()} - {SIDECAR, *engine.files}:
        raise EngineDamagedError(f"{folder}/{min(surplus)} is not in its sidecar")
