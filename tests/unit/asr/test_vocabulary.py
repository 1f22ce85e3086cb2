import numpy as np
import pytest

from services.asr.vocabulary import MOST_BEFORE, Span, Vocabulary
from tests.unit.asr.conftest import SPECIAL, SPECIAL_AFTER

IDS = {name: 256 + place for place, name in enumerate((*SPECIAL, *SPECIAL_AFTER))}
FIRST_TIME = IDS["<|notimestamps|>"] + 1


def at(seconds: float) -> int:
    return FIRST_TIME + round(seconds * 50)


def test_languages_in_the_order_of_their_tokens(vocabulary: Vocabulary, english: Vocabulary) -> None:
    assert vocabulary.languages == ("en", "de", "ja")
    assert english.languages == ("en",)


def test_prompt(vocabulary: Vocabulary, english: Vocabulary) -> None:
    start, transcribe = IDS["<|startoftranscript|>"], IDS["<|transcribe|>"]
    assert vocabulary.prompt("de") == [start, IDS["<|de|>"], transcribe]
    assert vocabulary.prompt("de", translate=True)[-1] == IDS["<|translate|>"]
    assert vocabulary.prompt("en", timestamps=False)[-1] == FIRST_TIME - 1
    assert english.prompt("en", before=[7, 8], hot_words=[9]) == [IDS["<|startofprev|>"], 9, 7, 8, start]


@pytest.mark.parametrize(("before", "hot"), [(0, 300), (300, 0), (300, 300), (10, 300), (300, 10)])
def test_what_stands_before_keeps_its_limit(vocabulary: Vocabulary, before: int, hot: int) -> None:
    ids = vocabulary.prompt("en", before=range(before), hot_words=[255] * hot)
    context = ids[1:-3]
    assert len(context) <= MOST_BEFORE
    assert len(context) == min(MOST_BEFORE, before + hot)
    if before:
        assert context[-1] == before - 1  # its end counts
    if hot:
        assert context[: min(hot, MOST_BEFORE // 2)] == [255] * min(hot, MOST_BEFORE // 2)


def test_a_text_that_spells_a_special_token_stays_text(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode("<|endoftext|>")
    assert len(ids) == len("<|endoftext|>")
    assert vocabulary.text([*ids, IDS["<|endoftext|>"], at(3)]) == "<|endoftext|>"


def test_spans(vocabulary: Vocabulary) -> None:
    a, b = vocabulary.encode(" a"), vocabulary.encode(" b")
    assert vocabulary.spans([at(0), *a, at(2), at(3), *b, at(5)], 10) == [Span(0, 2, a), Span(3, 5, b)]
    assert vocabulary.spans([at(1), *a], 4) == [Span(1, 4, a)]
    assert vocabulary.spans(a, 4) == [Span(0, 4, a)]
    assert vocabulary.spans([at(1), at(2), at(2), *a, at(30)], 4) == [Span(2, 4, a)]
    assert vocabulary.spans([at(3), *a, at(2), at(1), *b, at(5)], 10) == [Span(3, 3, a), Span(3, 5, b)]
    assert vocabulary.spans([at(0), at(1)], 10) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" Hello, world!", ["Hello,", "world!"]),
        (" don't - \"stop", ["don't", "-", '"stop']),
        (" caf\u00e9 ol\u00e9", ["caf\u00e9", "ol\u00e9"]),
        ("\u4eca\u65e5\u306f\u3002AI", ["\u4eca", "\u65e5", "\u306f\u3002", "AI"]),
        ("\u4eca AI\u65e5", ["\u4eca", "AI", "\u65e5"]),
        ("", []),
        (" ", []),
    ],
)
def test_words(vocabulary: Vocabulary, text: str, words: list[str]) -> None:
    ids = vocabulary.encode(text)
    times = np.arange(len(ids) + 1, dtype=np.float32) / 10
    found = vocabulary.words(ids, times, np.full(len(ids), 0.5, np.float32))
    assert [word.text for word in found] == words
    assert all(word.confidence == 0.5 for word in found)
    assert all(word.start < word.end for word in found)
    assert [word.start for word in found] == sorted(word.start for word in found)


def test_times_of_words_never_go_back(vocabulary: Vocabulary) -> None:
    found = vocabulary.words(vocabulary.encode("a b"), np.array([1, 0.5, 0.2, 3], "f4"), np.ones(3, np.float32))
    assert [(word.start, word.end) for word in found] == [(1, 1), (1, 3)]


def test_half_a_character_at_the_end(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode(" \u4eca")[:-1]
    (word,) = vocabulary.words(ids, np.arange(len(ids) + 1, dtype=np.float32), np.ones(len(ids), np.float32))
    assert word.text == "\ufffd"
