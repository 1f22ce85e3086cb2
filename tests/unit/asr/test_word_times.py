from itertools import pairwise

import pytest

from services.asr.vocabulary import Word
from services.asr.word_times import placed, trimmed, within


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 1.0)


def times(words) -> list[tuple[float, float]]:
    return [(round(word.start, 3), round(word.end, 3)) for word in words]


def test_a_pause_belongs_to_no_word() -> None:
    words = [word("One.", 0, 3), word("Two", 3, 3.3), word("three", 3.3, 3.6), word("four", 3.6, 3.9)]
    assert times(trimmed(words)) == [(0, 0.6), (3, 3.3), (3.3, 3.6), (3.6, 3.9)]


def test_a_pause_before_a_sentence() -> None:
    words = [word("One", 0, 3), word("two", 3, 3.3), word("three.", 3.3, 3.6), word("Four", 3.6, 6)]
    assert times(trimmed(words))[0] == (pytest.approx(1.95, abs=0.5), 3)
    assert times(trimmed(words))[-1][0] > 3.6


def test_within_a_segment() -> None:
    words = [word("a", -1, 0.5), word("b", 0.4, 0.3), word("c", 0.5, 9)]
    assert times(within(words, 0, 2)) == [(0, 0.5), (0.5, 0.5), (0.5, 2)]


def test_a_word_across_a_silence_is_where_most_of_it_is_spoken() -> None:
    words = [word("Americans", 1.5, 2.1), word("ask", 2.1, 3.7), word("not", 3.7, 4.2)]
    place = placed(1.5, 4.2, words, [(0.0, 2.3), (3.2, 4.2)])
    assert place is not None
    assert times(place.words) == [(1.5, 2.1), (3.1, 3.7), (3.7, 4.2)]


def test_nobody_speaks_there() -> None:
    assert placed(5, 7, [], [(0, 4)]) is None
    assert placed(5, 7, [], []) is not None


def test_a_segment_is_where_speech_is() -> None:
    place = placed(0, 10, [], [(2, 3), (4, 6)])
    assert place is not None
    assert (place.start, place.end) == (pytest.approx(1.8), pytest.approx(6.2))


def test_order_holds_whatever_the_engine_says() -> None:
    words = [word(str(n), (n * 7919) % 13 / 3, (n * 104729) % 17 / 3) for n in range(40)]
    place = placed(1, 4, words, [(0, 1.5), (2, 2.1), (3.3, 5)])
    assert place is not None
    assert all(place.start <= one.start <= one.end <= place.end for one in place.words)
    assert all(one.end <= other.start for one, other in pairwise(place.words))
