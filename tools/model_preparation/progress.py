"""Steps with visible progress: a live line on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.cli.console import console

_QUIET_SECONDS = 15.0


class Step:
    """One step that is under way; `show` tells what it does at this moment."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._started = time.monotonic()
        self._last_line = self._started
        self._live = console.is_terminal
        self._status = console.status(title) if self._live else None

    def start(self) -> None:
        """Say that the step begins."""
        if self._status:
            self._status.start()
        else:
            console.print(f"{self.title} ...", markup=False)

    def show(self, detail: str) -> None:
        """Replace the detail behind the title; without a terminal at most one line every 15 seconds."""
        now = time.monotonic()
        if self._status:
            width = max(20, console.width - len(self.title) - 12)
            self._status.update(f"{self.title} [dim]{_escape(detail[:width])}[/dim]")
        elif now - self._last_line >= _QUIET_SECONDS:
            self._last_line = now
            console.print(f"  {now - self._started:.0f} s: {detail}", markup=False)

    def stop(self, *, done: bool) -> None:
        """Say that the step is over and how long it took."""
        if self._status:
            self._status.stop()
        if done:
            console.print(f"{self.title}: done in {time.monotonic() - self._started:.1f} s", markup=False)


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show a step for as long as the block runs."""
    current = Step(title)
    current.start()
    try:
        yield current
    except BaseException:
        current.stop(done=False)
        raise
    current.stop(done=True)


@contextmanager
def watch_folder(current: Step, folder: Path, expected_bytes: int) -> Iterator[None]:
    """Show how much has arrived in a folder, whatever writes it."""
    finished = threading.Event()

    def look() -> None:
        while not finished.wait(0.5):
            arrived = folder_bytes(folder)
            current.show(f"{arrived / 1e6:.1f} of {expected_bytes / 1e6:.1f} MB")

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def folder_bytes(folder: Path) -> int:
    """Sum the sizes of all files below a folder that may change meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _escape(text: str) -> str:
    return text.replace("[", r"\[") if sys.stdout else text
