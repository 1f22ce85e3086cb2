"""How the benchmark of language models looks on the screen."""

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table

from tools.benchmark.goals import Goal
from tools.benchmark.llm import Result
from tools.benchmark.stream_rows import CacheRow, StreamRow

_COLUMNS = ("target", "tokens/s", "of the engine", "first token ms", "ms a token", "generator cores", "errors")


def tables(result: Result) -> Group:
    """Return everything that was measured, and then the goals."""
    groups = dict.fromkeys((row.prompt_tokens, row.streams) for row in result.rows)
    return Group(
        _first_token(result.first_token),
        *(
            _streams(_title(*group), [r for r in result.rows if (r.prompt_tokens, r.streams) == group])
            for group in groups
        ),
        _shared_prefix(result.shared_prefix),
        _streams("1 stream, repetitive text", result.lookup),
        _cpu(result.cpu_ms_per_token),
        _goals(result.goals),
    )


def _title(prompt_tokens: int, streams: int) -> str:
    return f"{streams} stream{'s' if streams > 1 else ''}, prompts of {prompt_tokens} tokens"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right")
    return table


def _streams(title: str, rows: Sequence[StreamRow]) -> Table:
    table = _table(title, *_COLUMNS)
    for row in rows:
        numbers = (row.rate, row.ratio, row.first_token, row.gap, row.generator_cores)
        forms = (".1f", ".2f", ".1f", ".2f", ".2f")
        shown = (f"{value:{form}}" for value, form in zip(numbers, forms, strict=True))
        table.add_row(row.target, *shown, _errors(row))
    return table


def _first_token(rows: Sequence[StreamRow]) -> Table:
    table = _table("time to the first token, 1 stream, short prompts", "target", "ms", "errors")
    for row in rows:
        table.add_row(row.target, f"{row.first_token:.1f}", _errors(row))
    return table


def _shared_prefix(rows: Sequence[CacheRow]) -> Table:
    title = "time to the first token of a long prompt, its beginning new and known"
    table = _table(title, "target", "new, ms", "known, ms", "times faster", "errors")
    for row in rows:
        table.add_row(row.target, f"{row.cold:.0f}", f"{row.known:.0f}", f"{row.ratio:.1f}", str(row.errors))
    return table


def _cpu(milliseconds: Mapping[str, float]) -> Table:
    table = _table("CPU time of one token, whole stack, short prompts", "process", "ms", "%")
    total = sum(milliseconds.values()) or 1.0
    for name, value in milliseconds.items():
        table.add_row(name, f"{value:.3f}", f"{100 * value / total:.1f}")
    return table


def _goals(goals: Sequence[Goal]) -> Table:
    table = _table("goals", "goal", "wanted", "this run", "met")
    for goal in goals:
        sign = "<=" if goal.at_most else ">="
        table.add_row(goal.name, f"{sign} {goal.wanted:g}", f"{goal.reached:.2f}", "yes" if goal.met else "no")
    return table


def _errors(row: StreamRow) -> str:
    return f"{row.errors} {row.first_error}".strip()
