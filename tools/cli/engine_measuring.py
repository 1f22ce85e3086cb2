"""`flotilla engines measure`: parity and latency on this machine's GPU, against the roofline."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.common.engines import EngineCache
from services.common.machine import this_machine
from tools.cli.console import Problem, console
from tools.cli.engine_options import (
    Models,
    Profiles,
    Python,
    chosen_engines,
    chosen_subjects,
    clear_failures,
    environments_in,
)
from tools.cli.store import open_store
from tools.engines import builders, inspection
from tools.engines.configurations import configuration
from tools.engines.measure import ROOFLINE_GPU, Row, measure_engine, measure_onnxruntime, sample
from tools.engines.pipeline import GRAPH_FILE
from tools.engines.publish import EnginePublisher
from tools.engines.shapes import from_json, optimisation_profiles


def measure(
    models: Models = None,
    *,
    profile: Profiles = None,
    python: Python = None,
    onnxruntime_python: Annotated[
        Path | None, typer.Option(help="Interpreter with onnxruntime-gpu; default: engines of the cache only.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Batch size; repeat it for more.")] = None,
    to: Annotated[Path | None, typer.Option(help="JSON file that gets every number.")] = None,
) -> None:
    """Time every graph on ONNX Runtime with CUDA, and every engine that fits this GPU. Not run on a GPU yet.

    Example: tools/flotilla engines measure --onnxruntime-python ./gpu/bin/python --to measured.json
    """
    settings, manifest, store = open_store()
    machine, cache, rows = this_machine(), EngineCache(store.root), list[Row]()
    if not machine.gpus:
        raise Problem("there is no NVIDIA GPU to measure on", "run this on a machine with one; docs/engines.md")
    batches = batch or [1, 32]
    with clear_failures(), EnginePublisher(cache).workplace() as workplace:
        environments = environments_in(workplace / "builder", settings)
        for one in chosen_subjects(manifest, store, models):
            config = configuration(manifest.model(one.model_id), one.triton_model, "")
            profiles = optimisation_profiles(config)
            sizes = sorted({min(size, max(1, config.max_batch_size)) for size in batches})
            samples = [sample(one.triton_model, profiles, size) for size in sizes]
            if onnxruntime_python is not None:
                rows += measure_onnxruntime(one.triton_model, one.graph, samples, onnxruntime_python, workplace)
            for engine in chosen_engines(cache, [one.triton_model], profile):
                if onnxruntime_python is not None and engine.key.profile.startswith("onnxruntime-cuda"):
                    graph = engine.path(GRAPH_FILE)
                    rows += measure_onnxruntime(one.triton_model, graph, samples, onnxruntime_python, workplace)
                if not engine.key.shapes or engine.key.differences(inspection.facts_of(machine, engine.key)):
                    continue
                name = engine.key.builder.partition(" ")[0]
                rows += measure_engine(
                    one.triton_model,
                    engine.path(builders.PLAN_FILE[name]),
                    one.graph,
                    samples,
                    profiles=from_json(engine.key.shapes),
                    builder=builders.open_builder(name, python, environments.interpreter, workplace),
                    scratch=workplace,
                    show=lambda _line: None,
                )
    _print(rows)
    if to is not None:
        facts = {"gpu": machine.gpus[0].name, "driver": machine.driver, "rows": [asdict(row) for row in rows]}
        to.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _print(rows: list[Row]) -> None:
    table = Table(
        "graph", "runtime", "batch", "queued ms", "CUDA graph ms", f"roofline ms ({ROOFLINE_GPU})", "distance"
    )
    for row in rows:
        graph = "-" if row.cuda_graph_ms is None else f"{row.cuda_graph_ms:.3f}"
        floor = "-" if row.roofline_ms is None else f"{row.roofline_ms:.3f}"
        numbers = (str(row.batch), f"{row.queued_ms:.3f}", graph, floor, f"{row.distance:.2e}")
        table.add_row(row.triton_model, row.runtime, *numbers)
    console.print(table)
