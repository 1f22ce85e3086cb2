import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from services.common.errors import ServiceError
from services.embedding.tokenizer import TextTokenizer, Truncate

LIMIT = 8


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(length=20)
    made.enable_truncation(4)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return TextTokenizer(path, LIMIT, len(words))


def test_the_files_own_padding_and_truncation_are_off(tokenizer):
    assert tokenizer.encode("f", "a b c d e", Truncate.NONE) == [2, 4, 5, 6, 7, 8, 3]


@pytest.mark.parametrize(
    ("truncate", "ids"), [(Truncate.END, [2, 4, 5, 6, 7, 8, 9, 3]), (Truncate.START, [2, 6, 7, 8, 9, 10, 11, 3])]
)
def test_truncation_keeps_the_asked_end_and_the_special_tokens(tokenizer, truncate, ids):
    assert tokenizer.encode("f", "a b c d e f g h", truncate) == ids
    assert tokenizer.complete("f", range(4, 12), truncate) == ids


def test_too_long_names_the_field(tokenizer):
    with pytest.raises(ServiceError) as caught:
        tokenizer.encode("inputs[1]", "a " * 7, Truncate.NONE)
    assert (caught.value.field, caught.value.code) == ("inputs[1]", "context_length_exceeded")


def test_an_id_outside_the_vocabulary_is_named(tokenizer):
    with pytest.raises(ServiceError) as caught:
        tokenizer.complete("inputs[1]", [4, 12], Truncate.END)
    assert caught.value.field == "inputs[1][1]"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6).map(" ".join))
def test_completing_encoded_ids_changes_nothing(tokenizer, text):
    ids = tokenizer.encode("f", text, Truncate.NONE)
    assert tokenizer.complete("f", ids, Truncate.NONE) == ids
    assert tokenizer.complete("f", ids[1:-1], Truncate.NONE) == ids
