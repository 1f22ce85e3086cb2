"""Subtitles are what their parsers take, whatever is said."""

import html
import io

import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.subtitles import Cue
from services.gateway.subtitles import srt as to_srt
from services.gateway.subtitles import vtt as to_vtt

HOSTILE = "a --> b\n\n00:00:00,000 --> 00:00:01,000\r\n<b>5 < 6 & 7</b>\n\n\n3\n\nWEBVTT"
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\r\t-> &<"), max_size=60)
CUES = st.lists(st.builds(Cue, st.floats(0, 20_000), st.floats(0, 20_000), TEXTS), max_size=5)


def lines(text: str) -> list[str]:
    """What is shown of a text."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def shown(cues: list[Cue]) -> list[tuple[float, list[str]]]:
    """Start and lines of what is shown."""
    return [(round(cue.start * 1000) / 1000, lines(cue.text)) for cue in cues if lines(cue.text)]


def test_srt() -> None:
    text = to_srt([Cue(0, 1.5, " Hello. "), Cue(3661.0015, 3700, "Two\n\nlines")])
    assert text == ("1\n00:00:00,000 --> 00:00:01,500\nHello.\n\n2\n01:01:01,002 --> 01:01:40,000\nTwo\nlines\n\n")


def test_vtt() -> None:
    text = to_vtt([Cue(0, 1.5, " Hello. "), Cue(3661.0015, 3700, "5 < 6 & 7")])
    assert text == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello.\n\n01:01:01.002 --> 01:01:40.000\n5 &lt; 6 &amp; 7\n"
    )


@pytest.mark.parametrize("cues", [[], [Cue(0, 1, " \n ")]])
def test_nothing_said(cues: list[Cue]) -> None:
    assert (to_srt(cues), to_vtt(cues)) == ("", "WEBVTT\n")
    assert len(webvtt.from_string(to_vtt(cues))) == 0


def test_a_cue_ends_after_it_begins() -> None:
    assert "00:00:02,000 --> 00:00:02,001" in to_srt([Cue(2, 2, "a")])


@given(CUES)
def test_srt_is_read_as_it_was_meant(cues: list[Cue]) -> None:
    read = list(srt.parse(to_srt(cues)))
    expected = [(start, [line.replace("-->", "->") for line in said]) for start, said in shown(cues)]
    assert [(cue.start.total_seconds(), lines(cue.content)) for cue in read] == expected
    assert all(cue.end > cue.start for cue in read)


@given(CUES)
def test_vtt_is_read_as_it_was_meant(cues: list[Cue]) -> None:
    read = list(webvtt.from_string(to_vtt(cues)))
    assert [[html.unescape(line).strip() for line in cue.lines] for cue in read] == [said for _, said in shown(cues)]


def test_hostile_text_stays_one_cue() -> None:
    cues = [Cue(0, 1, HOSTILE), Cue(1, 2, "next")]
    assert len(list(srt.parse(to_srt(cues)))) == 2
    assert len(webvtt.from_string(to_vtt(cues))) == 2
    assert len(webvtt.from_buffer(io.StringIO(to_srt(cues)), "srt")) == 2
