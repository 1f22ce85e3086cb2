"""How the benchmark of speech looks on the screen."""

from rich.console import Group
from rich.table import Table

from tools.benchmark.asr import Result


def asr_tables(result: Result) -> Group:
    """Return word error rates, live streams and goals."""
    return Group(_errors(result), _live(result), _goals(result))


def _errors(result: Result) -> Table:
    table = Table("model", "word error rate, files", title="accuracy", title_justify="left")
    for model, rate in result.word_error_rates.items():
        table.add_row(model, f"{rate:.1%}")
    return table


def _live(result: Result) -> Table:
    columns = (
        *("model", "streams", "first word ms", "after speech ms", "slowest", "after close ms", "slowest"),
        *("interims/s", "word error rate", "errors"),
    )
    table = Table(*columns, title="live streams in real time, medians", title_justify="left")
    for row in result.live:
        times = (
            *(row.first_word, row.after_speech, row.after_speech_slowest),
            *(row.after_close, row.after_close_slowest),
        )
        shown = (f"{time:.0f}" for time in times)
        others = (f"{row.interims_per_second:.1f}", f"{row.word_error_rate:.1%}", f"{row.errors} {row.first_error}")
        table.add_row(row.model, str(row.streams), *shown, *others)
    return table


def _goals(result: Result) -> Table:
    table = Table("goal", "wanted", "this run", "met", title="goals", title_justify="left")
    for goal in result.goals:
        sign = "<=" if goal.at_most else ">="
        table.add_row(goal.name, f"{sign} {goal.wanted:g}", f"{goal.reached:.3g}", "yes" if goal.met else "no")
    return table
