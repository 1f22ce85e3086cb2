import pytest

from services.asr.live.endpointing import Ended, Endpointer, EndpointingOptions, Started

SPEECH, BREATH, SILENCE = 0.9, 0.4, 0.01


@pytest.fixture
def endpointer() -> Endpointer:
    return Endpointer(EndpointingOptions(start_speech_ms=96, stop_silence_ms=320))


def test_speech_begins_with_its_first_frame_and_ends_after_the_last(endpointer: Endpointer):
    changes = endpointer.feed([SILENCE] * 5 + [SPEECH] * 20 + [SILENCE] * 10)
    assert changes == [Started(5), Ended(25)]
    assert endpointer.speech_frames == 20


def test_a_click_is_no_speech(endpointer: Endpointer):
    assert endpointer.feed(([SILENCE] * 3 + [SPEECH] * 2) * 10) == []


def test_a_short_pause_ends_nothing(endpointer: Endpointer):
    assert endpointer.feed([SPEECH] * 5 + [SILENCE] * 9 + [SPEECH] * 5) == [Started(0)]
    assert endpointer.spoken_until == 19


def test_what_goes_on_may_be_softer_than_what_starts(endpointer: Endpointer):
    assert endpointer.feed([BREATH] * 10) == []
    assert endpointer.feed([SPEECH] * 3 + [BREATH] * 30) == [Started(10)]


def test_pieces_give_what_the_whole_gives(endpointer: Endpointer):
    probabilities = ([SILENCE] * 12 + [SPEECH] * 7 + [SILENCE] * 14) * 3
    whole = Endpointer(EndpointingOptions(start_speech_ms=96, stop_silence_ms=320)).feed(probabilities)
    assert [change for probability in probabilities for change in endpointer.feed([probability])] == whole
    assert len(whole) == 6


def test_the_end_of_the_audio_ends_speech_once(endpointer: Endpointer):
    endpointer.feed([SPEECH] * 5 + [SILENCE] * 2)
    assert endpointer.finish() == [Ended(5)]
    assert endpointer.finish() == []
