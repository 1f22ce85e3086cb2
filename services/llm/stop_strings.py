"""Stop strings in a text that arrives in pieces. Text is held back only while it may be the begin of a stop string."""

from collections.abc import Sequence


class StopStrings:
    """Finds the first of the stop strings to be complete."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._begins = {stop[:length] for stop in stops for length in range(1, len(stop))}
        self._longest = max(map(len, stops), default=1) - 1
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Return the text that is certain now, and whether a stop string was met; it and what follows are left out."""
        if not self._stops:
            return text, False
        text = self._held + text
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self._held = ""
            return text[: min(ends)[1]], True
        hold = next((n for n in range(min(self._longest, len(text)), 0, -1) if text[-n:] in self._begins), 0)
        certain = len(text) - hold
        self._held = text[certain:]
        return text[:certain], False

    def end(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return held
