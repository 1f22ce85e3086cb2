"""The write side of the engine cache: one builder at a time, nothing visible before it is whole and on disk."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.common.engines import SIDECAR, Engine, EngineCache, EngineFile, EngineKey
from services.common.model_store import sha256_of
from tools.cli.writer_lock import writer_lock

_SCRATCH, _WORKPLACE = ".building-", ".environments-"


class EnginePublisher:
    """Publishes engines into a cache, and takes them out."""

    def __init__(self, cache: EngineCache) -> None:
        self.cache = cache

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold the cache's only writer lock (`writer_lock`); what a process left that died with it is removed."""
        with writer_lock(self.cache.root / ".lock", purpose):
            self._sweep()
            yield

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder on the cache's filesystem that is gone afterwards."""
        self.cache.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self.cache.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """Give a folder for what outlasts one hold of the lock (environments), gone afterwards.

        It is locked itself while its process lives, so that the next builder knows a dead one's.
        """
        self.cache.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_WORKPLACE, dir=self.cache.root))
        try:
            with (folder / ".lock").open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(
        self,
        key: EngineKey,
        model: str,
        files: Mapping[str, Path],
        *,
        gate: Mapping[str, Any],
        facts: Mapping[str, Any],
        build_seconds: float,
    ) -> Engine:
        """Put copies of `files` into the cache under `key`, whole or not at all; replaces an engine of the same key."""
        with self.scratch() as scratch:
            folder = scratch / key.digest
            folder.mkdir()
            for name, path in files.items():
                shutil.copyfile(path, folder / name)
            engine = Engine(
                key=key,
                model=model,
                files={
                    name: EngineFile(sha256=sha256_of(path), size=path.stat().st_size) for name, path in files.items()
                },
                gate=dict(gate),
                facts=dict(facts),
                created=datetime.now(UTC),
                build_seconds=build_seconds,
                folder=folder,
            )
            (folder / SIDECAR).write_bytes(engine.sidecar())
            return self.adopt(folder)

    def adopt(self, folder: Path) -> Engine:
        """Move a complete engine from a scratch folder into the cache. EngineDamagedError when it is not complete."""
        self.cache.read(folder).check_files()
        for path in folder.iterdir():
            path.chmod(0o644)
            _sync(path)
        folder.chmod(0o755)
        _sync(folder)
        target = self.cache.root / folder.name
        if target.exists():
            target.rename(folder.parent / "replaced")
        folder.rename(target)
        _sync(self.cache.root)
        return self.cache.read(target)

    def remove(self, folder: Path) -> None:
        """Take an engine out: out of sight first, then off the disk."""
        with self.scratch() as scratch:
            folder.rename(scratch / folder.name)

    def timing_cache(self, builder: str, gpu: str) -> Path:
        """Return where a builder keeps what it measured on a kind of GPU, between builds."""
        name = "".join(char if char.isalnum() else "-" for char in f"{builder} {gpu}".lower())
        return self.cache.root / "timing" / f"{name}.cache"

    def _sweep(self) -> None:
        """Remove what killed predecessors left; safe, because the lock is held."""
        for folder in self.cache.root.glob(f"{_SCRATCH}*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self.cache.root.glob(f"{_WORKPLACE}*"):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(workplace: Path) -> bool:
    try:
        with (workplace / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or not locked yet
        return False
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
