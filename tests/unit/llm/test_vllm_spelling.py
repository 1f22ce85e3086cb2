"""Token ids as text for vLLM: what the engine's tokenizer makes of it are the same ids, whatever they are."""

import json

import pytest
from tokenizers import Tokenizer

from services.common.errors import Kind, ServiceError
from services.common.server import StartupError
from services.llm.vllm_spelling import Spelling
from tests.unit.llm.fakes import SPECIALS, make_tokenizer


@pytest.fixture
def made(tmp_path):
    return make_tokenizer(tmp_path)


@pytest.fixture
def spelling(made, tmp_path):
    return Spelling(tmp_path / "tokenizer.json")


@pytest.fixture
def engine(spelling):
    files = spelling.files({"eos_token_id": [2, 0]})
    assert json.loads(files["tokenizer_config.json"])["eos_token"] == SPECIALS[2]
    return Tokenizer.from_str(files["tokenizer.json"])


def test_every_token_is_itself(spelling, engine, made):
    ids = list(range(made[0].vocabulary_size))
    assert engine.encode(spelling.spell(ids)).ids == ids


@pytest.mark.parametrize(
    "text", ["hello world", "<|im_end|>", "\ue000", "a\ue000<|im_start|>b", "😀 größer\n\n", " ", "\x00"]
)
def test_what_a_caller_writes_stays_text(spelling, engine, made, text):
    ids = made[0].encode(text)
    assert not set(ids) & set(range(len(SPECIALS)))
    assert engine.encode(spelling.spell(ids)).ids == ids


def test_special_tokens_among_text(spelling, engine, made):
    ids = [1, *made[0].encode("hello <|im_end|>"), 2, 2, 1]
    assert engine.encode(spelling.spell(ids)).ids == ids


def test_the_vocabulary_and_the_decoder_are_the_models_own(spelling, engine, made):
    assert engine.get_vocab() == made[1].get_vocab()
    ids = made[0].encode("größer 😀")
    assert engine.decode(ids) == "größer 😀"


def test_a_token_that_the_tokenizer_lacks_is_named(spelling):
    with pytest.raises(ServiceError) as caught:
        spelling.spell([1, 99_999])
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, "tokens.ids")
    assert "99999" in caught.value.message


def test_a_vocabulary_of_another_kind_stops_the_start(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}))
    with pytest.raises(StartupError, match="Unigram"):
        Spelling(path)
