"""What `tools/bench saturation` shows."""

from rich.table import Table

from tools.benchmark.saturation import BOUNDS, Result


def saturation_table(result: Result) -> Table:
    """Return a row for each share of the capacity."""
    title = f"{result.service}: capacity {result.capacity:.3g} requests/s, found in {len(result.trials)} trials"
    table = Table(title=title, title_justify="left")
    columns = ("offered", "requests/s", "after 15 s", "mean", "lowest", "highest", "wanted", "met", "CPU", "in time")
    for name in columns:
        table.add_column(name, justify="right")
    for share in result.shares:
        low, high = BOUNDS[share.share]
        read = [reading.saturation for reading in share.settled] or [float("nan")]
        numbers = (share.at_fifteen(), share.mean("saturation"), min(read), max(read))
        table.add_row(
            f"{share.share:g} x",
            f"{share.rate:.3g}",
            *(f"{number:.2f}" for number in numbers),
            f"{low:g} to {high:g}",
            "yes" if share.met else "no",
            f"{share.mean('cpu'):.0%}",
            f"{share.in_time:.0%}",
        )
    return table
