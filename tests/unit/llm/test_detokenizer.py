from hypothesis import given
from hypothesis import strategies as st

from services.llm.detokenizer import Detokenizer


def streamed(tokenizer, ids):
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.feed(number) for number in ids), detokenizer.end()]


@given(st.data())
def test_random_ids_give_the_text_of_all_together(tokenizer, original, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1), max_size=60))
    text = "".join(streamed(tokenizer, ids))
    assert text == original.decode(ids, skip_special_tokens=True)
    assert text == tokenizer.decode(ids)


@given(st.text())
def test_text_comes_back_in_whole_characters(tokenizer, text):
    pieces = streamed(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert "\ufffd" in text or "\ufffd" not in "".join(pieces)


def test_half_a_character_waits_for_its_other_half(tokenizer):
    ids = tokenizer.encode("😀")
    assert len(ids) > 1
    assert streamed(tokenizer, ids) == [*[""] * (len(ids) - 1), "😀", ""]
    assert streamed(tokenizer, ids[:-1])[-1] == "\ufffd"


@given(st.text())
def test_tokens_have_the_bytes_of_the_text(tokenizer, text):
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


def test_a_special_token_that_a_text_spells_is_text(tokenizer):
    ids = tokenizer.encode("a<|im_end|>b")
    assert not set(ids) & set(tokenizer.special_ids.values())
    assert tokenizer.decode(ids) == "a<|im_end|>b"
