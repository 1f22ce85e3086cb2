"""The view of a fleet that starts, runs or stops: a live table on a terminal, one line per change elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tools.fleet.health import Health, Phase

_MARKS = {"pending": "·", "running": "…", "done": "✓", "failed": "✗"}


class Progress:
    """Shows what `update` is given; `say` prints a line that stays."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._begin = time.monotonic()
        self._shown: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    @property
    def seconds(self) -> float:
        """Since the view was opened."""
        return time.monotonic() - self._begin

    def update(self, healths: Sequence[Health], line: bool = False) -> None:
        """Show the processes, as a table or as one line."""
        if self._live:
            self._live.update(self._line(healths) if line else self._table(healths), refresh=True)
            return
        for health in healths:
            name, summary = health.process.name, health.summary
            if self._shown.get(name) != summary:
                self._shown[name] = summary
                self._console.print(f"  {name}: {summary} ({self.seconds:.0f} s)", markup=False)

    def say(self, text: str) -> None:
        """Print a line above the live view."""
        self._console.print(text, markup=False)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        else:
            self._console.print(self._title, markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def _table(self, healths: Sequence[Health]) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for health in healths:
            style = "green" if health.ready else "yellow"
            phases = "  ".join(_phase(phase) for phase in health.phases)
            table.add_row(f"  {health.process.name}", Text(health.summary, style), Text(phases, "dim"))
        return Group(Text(f"{self._title}  {self.seconds:.0f} s", "bold"), table)

    def _line(self, healths: Sequence[Health]) -> RenderableType:
        line = Text()
        for health in healths:
            line.append("● ", "green" if health.ready else "yellow")
            line.append(health.process.name if health.ready else f"{health.process.name}: {health.summary}")
            line.append("  ")
        line.append(f"up {duration(self.seconds)}  Ctrl-C drains and stops", "dim")
        line.no_wrap, line.overflow = True, "ellipsis"
        return line


def duration(seconds: float) -> str:
    """Return 1h02m, 3m04s or 5s."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _phase(phase: Phase) -> str:
    seconds = f" {phase.seconds:.1f} s" if phase.seconds else ""
    return f"{_MARKS.get(phase.state, '?')} {phase.name}{seconds}"
