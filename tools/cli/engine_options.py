"""What the commands of `flotilla engines` share: their arguments, what they open, and how failures become one line."""

import errno
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from services.common.engines import Engine, EngineCache, EngineError
from services.common.manifest import Manifest
from services.common.model_store import ModelStore, ModelStoreError
from tools.cli.console import Problem
from tools.cli.settings import ToolSettings
from tools.engines import builders
from tools.engines.subjects import Subject, subjects
from tools.model_preparation.commands import DiskFullError
from tools.model_preparation.export_environment import ExportEnvironments

Models = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL]...", help="Model ids or Triton names; default: all.")
]
Profiles = Annotated[list[str] | None, typer.Option("--profile", help="Execution profile; repeat it for more.")]
BuilderName = Annotated[str, typer.Option("--builder", help=f"One of {', '.join(builders.BUILDERS)}.")]
Python = Annotated[Path | None, typer.Option("--python", help="Interpreter that has the builder; default: find one.")]


def chosen_subjects(manifest: Manifest, store: ModelStore, named: Sequence[str] | None) -> list[Subject]:
    """Return the graphs of models named by public id or Triton name; all when nothing is named."""
    known = subjects(manifest, store)
    if not named:
        return list(known)
    for name in named:
        if not any(name in (one.model_id, one.triton_model) for one in known):
            if name in manifest.models and store.model(name) is None:
                raise Problem(f"model '{name}' is not in the store {store.root}", f"run: tools/models fetch {name}")
            names = ", ".join(one.triton_model for one in known) or "none"
            raise Problem(f"no graph '{name}' can be made an engine", f"take one of: {names}")
    return [one for one in known if one.model_id in named or one.triton_model in named]


def chosen_engines(cache: EngineCache, models: Sequence[str] | None, profiles: Sequence[str] | None) -> list[Engine]:
    """Return the engines of models and profiles by name, newest first; all when nothing is named."""
    return [
        engine
        for engine in cache.all()
        if (not models or engine.model in models or engine.key.triton_model in models)
        and (not profiles or engine.key.profile in profiles)
    ]


def environments_in(scratch: Path, settings: ToolSettings) -> ExportEnvironments:
    """Return where throw-away environments are made, one at a time, in a folder of their own."""
    scratch.mkdir()
    return ExportEnvironments(scratch, settings.torch_index_url, allow_cuda=False)


@contextmanager
def clear_failures() -> Iterator[None]:
    """Turn what the cache and the store say into one clear line; a SIGTERM cleans up like Ctrl-C."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except (EngineError, ModelStoreError) as error:
        raise Problem(*str(error).split("; run: ", 1)) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(error.filename or "the engine cache") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
