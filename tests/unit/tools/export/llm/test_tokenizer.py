import pytest

from tools.export.command import ExportRefusedError
from tools.export.llm.tokenizer import CONTROL, USER_DEFINED, byte_level_tokenizer

TOKENS = ["<end>", "<mark>", *"0123456789abc", "ab", "12", "123", "1234"]
KINDS = [CONTROL, USER_DEFINED, *[1] * (len(TOKENS) - 2)]
MERGES = ["a b", "1 2", "12 3", "123 4"]


def pieces(pre: str, text: str) -> list[str]:
    return list(byte_level_tokenizer(TOKENS, KINDS, MERGES, pre).encode(text, add_special_tokens=False).tokens)


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["1", "2", "3", "4", "ab"]),
        ("qwen2", ["1", "2", "3", "4", "ab"]),
        ("llama-bpe", ["123", "4", "ab"]),
        ("gpt-2", ["1234", "ab"]),
    ],
)
def test_digits_are_cut_as_the_pre_tokeniser_does(pre: str, expected: list[str]) -> None:
    assert pieces(pre, "1234ab") == expected


def test_special_tokens_are_whole_and_only_control_tokens_are_special() -> None:
    tokenizer = byte_level_tokenizer(TOKENS, KINDS, MERGES, "smollm")
    ids = tokenizer.encode("ab<end>c<mark>", add_special_tokens=False).ids
    assert [TOKENS[token] for token in ids] == ["ab", "<end>", "c", "<mark>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "abc<mark>"


@pytest.mark.parametrize("pre", ["default", "deepseek-llm", ""])
def test_another_pre_tokeniser_is_refused(pre: str) -> None:
    with pytest.raises(ExportRefusedError, match="pre-tokeniser"):
        pieces(pre, "a")
