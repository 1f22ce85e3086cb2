"""Subtitles: SubRip (https://www.matroska.org/technical/subtitles.html) and https://www.w3.org/TR/webvtt1/."""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SRT_TYPE = "application/x-subrip; charset=utf-8"
VTT_TYPE = "text/vtt; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, in seconds."""

    start: float
    end: float
    text: str


def srt(cues: Iterable[Cue]) -> str:
    """Return the cues as SubRip. It has no escapes, so an arrow in a text, which parsers look for, gets shorter."""
    blocks = (
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{text.replace('-->', '->')}\n\n"
        for number, (start, end, text) in enumerate(_shown(cues), 1)
    )
    return "".join(blocks)


def vtt(cues: Iterable[Cue]) -> str:
    """Return the cues as WebVTT."""
    blocks = (
        f"\n{_time(start, '.')} --> {_time(end, '.')}\n{html.escape(text, quote=False)}\n"
        for start, end, text in _shown(cues)
    )
    return "WEBVTT\n" + "".join(blocks)


def _shown(cues: Iterable[Cue]) -> Iterator[tuple[int, int, str]]:
    """Yield start and end in milliseconds, the end after the start, and the text without empty lines, which end it."""
    for cue in cues:
        text = "\n".join(line for line in map(str.strip, cue.text.splitlines()) if line)
        if text:
            start = round(cue.start * 1000)
            yield start, max(round(cue.end * 1000), start + 1), text


def _time(milliseconds: int, mark: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{mark}{milliseconds:03}"
