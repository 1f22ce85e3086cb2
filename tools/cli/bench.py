"""`flotilla bench`: benchmarks and the soak, each with a table on the screen and a JSON file."""

import asyncio
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from services.common.cpu import available_cpus
from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from tools.benchmark import embedding as benchmark
from tools.benchmark import soak as soaking
from tools.cli.console import console
from tools.fleet.settings import fleet_settings

app = typer.Typer(help="Measure throughput, latency and memory.", no_args_is_help=True)


@app.command()
def embedding(
    clients: Annotated[list[int] | None, typer.Option(min=1, help="Concurrent clients; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each target gets its turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of one measurement.")] = 6.0,
    peer: Annotated[str | None, typer.Option(help="A peer to measure beside: infinity.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes.")] = None,
) -> None:
    """Embed texts of mixed lengths: engine alone, Triton, the service, the whole stack, all in one run.

    Example: `tools/bench embedding --clients 16 --peer infinity`
    """
    settings = fleet_settings()
    folder = settings.state_dir / "benchmark"
    plan = benchmark.Plan(tuple(clients or (1, 16, 64)), rounds, seconds, peer)
    with console.status("") as status:
        manifest = load_manifest(settings.model_manifest)
        work = benchmark.run(plan, folder, manifest, ModelStore(settings.model_store), status.update)
        rows, facts = asyncio.run(work)
    for number in plan.clients:
        console.print(_table(number, [row for row in rows if row.clients == number]))
    _write(output or folder / "embedding.json", {"plan": asdict(plan), **facts, "rows": [asdict(row) for row in rows]})


@app.command()
def soak(
    requests: Annotated[int, typer.Option(min=100, help="Requests to send over HTTP.")] = 50_000,
    clients: Annotated[int, typer.Option(min=1, help="Concurrent clients.")] = 32,
    output: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes.")] = None,
) -> None:
    """Send many embedding requests over HTTP and watch the memory of every process.

    Example: `tools/bench soak --requests 50000`
    """
    settings = fleet_settings()
    folder = settings.state_dir / "benchmark"
    model = load_manifest(settings.model_manifest).for_service("embedding")[0].id
    with console.status("") as status:
        result = asyncio.run(soaking.run(requests, clients, folder, model, status.update))
    table = Table("requests", *(f"{name} MB" for name in result.samples[0].megabytes))
    for sample in result.samples:
        table.add_row(f"{sample.requests}", *(f"{size:.1f}" for size in sample.megabytes.values()))
    console.print(table)
    console.print(f"{result.requests} requests, {result.errors} errors, {result.rate:.0f}/s")
    _write(output or folder / "soak.json", asdict(result))


def _table(clients: int, rows: list[benchmark.Row]) -> Table:
    base = next(row.rate for row in rows if row.target == benchmark.TRITON)
    table = Table(title=f"{clients} client{'s' if clients > 1 else ''}, one text a request", title_justify="left")
    for name in ("target", "texts/s", "of Triton", "p50 ms", "p99 ms", "generator cores", "errors"):
        table.add_column(name, justify="left" if name == "target" else "right")
    for row in rows:
        numbers = (row.rate, row.rate / base, row.p50, row.p99, row.generator_cores)
        shown = (f"{value:{form}}" for value, form in zip(numbers, (".0f", ".2f", ".2f", ".1f", ".2f"), strict=True))
        table.add_row(row.target, *shown, f"{row.errors} {row.first_error}".strip())
    return table


def _write(path: Path, result: dict[str, Any]) -> None:
    machine = {"cpus": available_cpus(), "machine": platform.machine(), "python": platform.python_version()}
    path.parent.mkdir(parents=True, exist_ok=True)
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    path.write_text(json.dumps({"date": date, "host": machine, **result}, indent=2) + "\n")
    console.print(f"written to {path}")
