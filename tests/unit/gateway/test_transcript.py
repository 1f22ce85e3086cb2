"""Transcripts as text and as events."""

import json

import pytest
from flotilla.asr.v1 import asr_pb2 as pb

from services.gateway.transcript import Transcript, TranscriptEvents


def segment(text: str) -> pb.TranscribeFileResponse:
    return pb.TranscribeFileResponse(segment=pb.Segment(text=text))


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        ([" Hello.", " World."], "Hello. World."),
        ([" Hello. ", "World. "], "Hello. World."),
        (["  ", " Hello.", "  ", " World.", " "], "Hello.   World."),
        (["你好。", "世界。"], "你好。世界。"),
        ([" "], ""),
        ([], ""),
    ],
)
def test_the_deltas_together_are_the_text(texts: list[str], whole: str) -> None:
    transcript = Transcript()
    assert "".join(transcript.add(segment(text)) for text in texts) == transcript.text == whole


def test_nothing_new_is_no_event() -> None:
    events = TranscriptEvents()
    assert events.of(0, segment(" ")) == b""
    assert json.loads(events.of(0, segment(" Hé")).removeprefix(b"data: "))["delta"] == "Hé"
    assert json.loads(events.end().removeprefix(b"data: "))["text"] == "Hé"
