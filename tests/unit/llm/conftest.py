import pytest

from tests.unit.llm.fakes import make_tokenizer


@pytest.fixture(scope="session")
def tokenizer_pair(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("llm_tokenizer"))


@pytest.fixture(scope="session")
def tokenizer(tokenizer_pair):
    return tokenizer_pair[0]


@pytest.fixture(scope="session")
def original(tokenizer_pair):
    """The tokenizer as its library uses it: special tokens are parsed."""
    return tokenizer_pair[1]
