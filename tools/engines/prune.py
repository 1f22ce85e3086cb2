"""What may leave the engine cache: old engines, the oldest beyond a size, and what cannot be read."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.common.engines import SIDECAR, Engine, EngineDamagedError
from tools.engines.publish import EnginePublisher


def chosen_for_pruning(engines: Sequence[Engine], older_than: timedelta | None, max_bytes: int | None) -> list[Engine]:
    """Return the engines unused for longer than `older_than`, then the longest unused until `max_bytes` are kept."""
    now = datetime.now(UTC)
    newest_first = sorted(engines, key=last_used, reverse=True)
    kept_bytes, chosen = 0, []
    for engine in newest_first:
        too_old = older_than is not None and now - last_used(engine) > older_than
        too_much = max_bytes is not None and kept_bytes + engine.size > max_bytes
        if too_old or too_much:
            chosen.append(engine)
        else:
            kept_bytes += engine.size
    return chosen


def last_used(engine: Engine) -> datetime:
    """Return when a service last started on an engine, else when it was built."""
    try:
        return datetime.fromtimestamp(engine.path(SIDECAR).stat().st_mtime, UTC)
    except OSError:
        return engine.created


def remove_damaged(publisher: EnginePublisher) -> list[tuple[Path, str]]:
    """Take out every folder whose sidecar cannot be believed or whose files are not whole; returns each with why."""
    removed: list[tuple[Path, str]] = []
    for folder in sorted(publisher.cache.root.glob("[0-9a-f]" * 8 + "*")):
        try:
            publisher.cache.read(folder).check_files()
        except EngineDamagedError as error:
            publisher.remove(folder)
            removed.append((folder, str(error).partition("; run: ")[0]))
    return removed


def remove_timing_caches(publisher: EnginePublisher) -> None:
    """Delete what builders measured; the next build measures again."""
    shutil.rmtree(publisher.cache.root / "timing", ignore_errors=True)
