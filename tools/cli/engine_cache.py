"""`flotilla engines list|prune|export|import`: what is in the cache, and how it gets there and leaves."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.common.engines import EngineCache
from services.common.machine import this_machine
from tools.cli.console import Problem, console
from tools.cli.engine_options import Models, Profiles, chosen_engines, clear_failures
from tools.cli.store import open_store
from tools.engines import archive, inspection
from tools.engines.prune import chosen_for_pruning, last_used, remove_damaged, remove_timing_caches
from tools.engines.publish import EnginePublisher


def list_engines() -> None:
    """Show every engine of the cache.

    Example: tools/flotilla engines list
    """
    _, _, store = open_store()
    cache = EngineCache(store.root)
    table = Table("engine", "graph, profile", "built by, for", "state")
    for column in table.columns:
        column.overflow = "fold"
    for engine in cache.all():
        key, ran = engine.key, engine.facts.get("verify", {}).get("ran")
        place = " ".join(part for part in (key.gpu_name, key.compute_capability, key.platform) if part) or "any machine"
        passed = "gate passed" if engine.gate.get("passed") is True else "[red]gate refused[/red]"
        table.add_row(
            f"{key.digest[:12]}\n{last_used(engine):%Y-%m-%d}",
            f"{key.triton_model}\n{key.profile}",
            f"{key.builder or 'graph for ONNX Runtime'}\n{place}",
            f"{engine.size / 1e6:.1f} MB\n{passed}, {'ran' if ran else 'not run'}",
        )
    console.print(table)
    for error in cache.damaged():
        console.print(f"damaged: {error}", style="red", markup=False)


def prune(
    older_than: Annotated[float | None, typer.Option(min=0, help="Days without use.")] = None,
    max_size: Annotated[float | None, typer.Option(min=0, help="GB to keep at most; the longest unused go.")] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="What cannot be read or has a wrong digest.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="What builders measured, too.")] = False,
) -> None:
    """Take engines out of the cache by age, by size, or because they are damaged.

    Example: tools/flotilla engines prune --older-than 30 --max-size 5
    """
    if older_than is None and max_size is None and not damaged and not timing:
        raise Problem("nothing says what to prune", "add --older-than DAYS, --max-size GB, --damaged or --timing")
    _, _, store = open_store()
    publisher = EnginePublisher(EngineCache(store.root))
    with clear_failures(), publisher.lock("pruning"):
        for folder, reason in remove_damaged(publisher) if damaged else []:
            console.print(f"removed {folder.name[:12]}: {reason}", markup=False)
        age = timedelta(days=older_than) if older_than is not None else None
        size = int(max_size * 1e9) if max_size is not None else None
        for engine in chosen_for_pruning(publisher.cache.all(), age, size):
            publisher.remove(engine.folder)
            console.print(
                f"removed {engine.key.digest[:12]}: {engine.key.triton_model} {engine.key.profile}", markup=False
            )
        if timing:
            remove_timing_caches(publisher)
    kept = publisher.cache.all()
    console.print(f"kept {len(kept)} engines, {sum(engine.size for engine in kept) / 1e6:.1f} MB", markup=False)


def export_engines(
    to: Annotated[Path, typer.Argument(metavar="ARCHIVE.tar", help="File to write.")],
    models: Models = None,
    profile: Profiles = None,
) -> None:
    """Write engines to one file, for another machine of the same kind.

    Example: tools/flotilla engines export engines.tar efficientnet-lite0
    """
    _, _, store = open_store()
    cache = EngineCache(store.root)
    with clear_failures():
        if not to.parent.is_dir():
            raise Problem(f"there is no folder {to.parent}", "name a file in a folder that exists")
        engines = chosen_engines(cache, models, profile)
        if not engines:
            raise Problem(
                f"there is nothing to export in {cache.root}", "tools/flotilla engines list shows what is there"
            )
        archive.write_archive(engines, to)
    console.print(f"{to}: {len(engines)} engines, {to.stat().st_size / 1e6:.1f} MB", markup=False)


def import_engines(origin: Annotated[Path, typer.Argument(metavar="ARCHIVE.tar", help="File of `export`.")]) -> None:
    """Take engines in from a file. Every digest is checked first; what the start refuses is said.

    Example: tools/flotilla engines import engines.tar
    """
    _, _, store = open_store()
    publisher, machine = EnginePublisher(EngineCache(store.root)), this_machine()
    with clear_failures():
        if not origin.is_file():
            raise Problem(f"there is no file {origin}", "name a file of `flotilla engines export`")
        with publisher.lock(f"importing {origin.name}"):
            imported = archive.read_archive(origin, publisher)
    for engine in imported:
        console.print(
            f"imported {engine.key.digest[:12]}: {engine.key.triton_model} {engine.key.profile}", markup=False
        )
        for difference in engine.key.differences(inspection.facts_of(machine, engine.key)):
            console.print(f"  not for this machine: {difference}", markup=False)
