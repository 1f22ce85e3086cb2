"""Byte-level BPE tokenizers from the vocabulary and the merges of a GGUF file.

The pre-tokenisers are those of llama.cpp, by the name that the file gives (`llama_vocab::impl::load`). Each of them was
held against llama.cpp's on the texts of reference_tokens.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.export.command import ExportRefusedError

CONTROL, USER_DEFINED = 3, 4
"""Token types of GGUF that are matched as a whole: control tokens, and others that are plain text."""
DIGIT_BY_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell")
PLAIN = ("gpt-2", "phi-2", "olmo")
LLAMA_3 = ("llama3", "llama-v3", "llama-bpe")
QWEN_2 = ("qwen2", "deepseek-r1-qwen")
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level_tokenizer(tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str], pre: str) -> Any:
    """Return a `tokenizers.Tokenizer`. ExportRefusedError when the pre-tokeniser `pre` is not known."""
    from tokenizers import AddedToken, Tokenizer, decoders, models  # noqa: PLC0415

    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    vocabulary = {text: number for number, text in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=pre in LLAMA_3))
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        added = [
            AddedToken(text, special=special, normalized=False)
            for text, its_kind in zip(tokens, kinds, strict=True)
            if its_kind == kind
        ]
        tokenizer.add_special_tokens(added) if special else tokenizer.add_tokens(added)
    return tokenizer


def _pre_tokenizer(pre: str) -> Any:
    from tokenizers import Regex, pre_tokenizers  # noqa: PLC0415

    if pre in PLAIN:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre in DIGIT_BY_DIGIT:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if pre in LLAMA_3 or pre in QWEN_2:
        words = Regex(_WORDS % ("{1,3}" if pre in LLAMA_3 else ""))
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([pre_tokenizers.Split(words, "isolated"), whole])
    raise ExportRefusedError(f"the pre-tokeniser {pre!r} is not known")
