from services.asr.live.agreement import Agreement, Cut, sentence_cut, without_repeats, word_cut
from services.asr.vocabulary import Word, text_of


def words(text: str, start: float = 0.0) -> list[Word]:
    """Words of 0.4 s with 0.1 s between them."""
    return [Word(word, start + n * 0.5, start + n * 0.5 + 0.4, 0.9) for n, word in enumerate(text.split())]


def test_what_two_readings_agree_on_is_committed():
    agreement = Agreement()
    agreement.update(words("as you no"))
    assert agreement.committed == [] and agreement.stability == 0.0
    agreement.update(words("As you know and"))
    assert text_of(agreement.committed) == "As you"
    agreement.update(words("As you know and I"))
    assert text_of(agreement.committed) == "As you know and"
    assert text_of(agreement.words) == "As you know and I"
    assert agreement.stability == 12 / 13


def test_punctuation_and_case_do_not_disagree():
    agreement = Agreement()
    agreement.update(words("proof. I"))
    agreement.update(words("Proof, I have"))
    assert text_of(agreement.committed) == "Proof, I"


def test_committed_words_stay_when_a_later_reading_differs():
    agreement = Agreement()
    for text in ("the whole world", "the whole world is", "a hole world is round"):
        agreement.update(words(text))
    assert text_of(agreement.committed).startswith("the whole world")
    assert text_of(agreement.words) == "the whole world is round"


def test_settled_words_are_put_away():
    agreement = Agreement()
    for text in ("One. Two three", "One. Two three four"):
        agreement.update(words(text))
    cut = sentence_cut(agreement.committed)
    assert cut is not None and cut.words == 1 and 0.4 < cut.time < 0.5
    agreement.settle(cut)
    agreement.update(words("Two three four five", start=0.5))
    assert text_of(agreement.settled) == "One." and text_of(agreement.words) == "One. Two three four five"


def test_a_cut_between_words_is_at_the_longest_pause_of_the_second_half():
    said = [*words("a b c d"), *words("e f", start=3.0)]
    cut = word_cut(said)
    assert cut == Cut(4, (1.9 + 3.0) / 2)
    assert word_cut(said[:1]) is None and sentence_cut(said) is None


def test_endless_repetition_counts_once():
    phrase = "in person and"
    assert text_of(without_repeats(words(f"to you {phrase} {phrase} {phrase} in"))) == f"to you {phrase}"
    assert text_of(without_repeats(words("no no no no no"))) == "no"


def test_what_is_said_twice_stays():
    text = "what you can do for your country you can do for your country"
    assert text_of(without_repeats(words(text))) == text
