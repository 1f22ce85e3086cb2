"""How the benchmark of the gateway looks on the screen."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from tools.benchmark.gateway import Plan, Result
from tools.benchmark.gateway_rows import GatewayRow
from tools.benchmark.goals import Goal
from tools.benchmark.instant import DELTAS


def gateway_tables(plan: Plan, result: Result) -> Group:
    """Return everything that was measured, and then the goals."""
    shown: list[RenderableType] = []
    if result.embeddings:
        shown.append(_rates(f"embeddings, {plan.clients} clients", result.embeddings))
    if result.chat:
        title = f"streams of chat, {plan.streams} at a time, {DELTAS} pieces of text each"
        shown.append(_rates(title, result.chat, events=True))
    if result.latency:
        shown.append(_latencies(f"embeddings, {plan.arrivals:g} requests/s", result.latency))
    if result.memory:
        shown.append(_memory(result))
    return Group(*shown, _goals(result.goals))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right")
    return table


def _rates(title: str, rows: Sequence[GatewayRow], events: bool = False) -> Table:
    extra = ("events/s per core",) if events else ()
    columns = (
        "requests/s",
        "per core",
        "CPU ms",
        *extra,
        "of LiteLLM",
        "p50 ms",
        "p99 ms",
        "generator cores",
        "errors",
    )
    table = _table(title, "target", *columns)
    for row in rows:
        flow = (_number(row.per_core * DELTAS, ".0f"),) if events else ()
        numbers = (_number(row.rate, ".0f"), _number(row.per_core, ".0f"), _number(row.cpu_ms, ".3f"), *flow)
        rest = (_number(row.of_peer, ".2f"), _number(row.p50, ".2f"), _number(row.p99, ".1f"))
        table.add_row(row.target, *numbers, *rest, _number(row.generator_cores, ".2f"), _errors(row))
    return table


def _latencies(title: str, rows: Sequence[GatewayRow]) -> Table:
    columns = ("requests/s", "p50 ms", "p99 ms", "added p50", "added p99", "CPU ms", "generator cores", "errors")
    table = _table(title, "target", *columns)
    for row in rows:
        times = (_number(value, ".2f") for value in (row.p50, row.p99, row.added_p50, row.added_p99))
        cpu = (_number(row.cpu_ms, ".3f"), _number(row.generator_cores, ".2f"))
        table.add_row(row.target, _number(row.rate, ".0f"), *times, *cpu, _errors(row))
    return table


def _memory(result: Result) -> Table:
    errors = f"{result.soak_errors} errors {result.soak_first_error}".strip()
    table = _table(f"memory of the gateway, {errors}", "requests", "MB")
    for requests, size in result.memory.items():
        table.add_row(requests, f"{size:.1f}")
    return table


def _goals(goals: Sequence[Goal]) -> Table:
    table = _table("goals", "goal", "wanted", "this run", "")
    for goal in goals:
        sign = "<=" if goal.at_most else ">="
        reached = "reached" if goal.met else "not reached"
        table.add_row(goal.name, f"{sign} {goal.wanted:g}", f"{goal.reached:.4g}", reached)
    return table


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else f"{value:{form}}"


def _errors(row: GatewayRow) -> str:
    return f"{row.errors} {row.first_error}".strip()
