from hypothesis import given
from hypothesis import strategies as st

from services.llm.stop_strings import StopStrings

few = st.text("abc", max_size=12)


def naive(text, stops):
    """The text before the stop string that is complete first, character by character."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(st.lists(few, max_size=8), st.lists(st.text("abc", min_size=1, max_size=4), max_size=4))
def test_it_is_as_if_the_text_had_come_character_by_character(pieces, stops):
    finder, out, met = StopStrings(stops), "", False
    for piece in pieces:
        certain, met = finder.feed(piece)
        out += certain
        if met:
            break
    if not met:
        out += finder.end()
    assert (out, met) == naive("".join(pieces), stops)


@given(few, st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4))
def test_no_more_is_held_back_than_may_become_a_stop_string(text, stops):
    finder = StopStrings(stops)
    certain, met = finder.feed(text)
    if not met:
        held = text[len(certain) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_without_stop_strings_text_goes_through():
    assert StopStrings(()).feed("anything") == ("anything", False)
