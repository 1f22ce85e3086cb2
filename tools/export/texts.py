"""Texts that try an encoder from all sides: length, script, case, emoji, code, numbers, white space.

Deterministic, so that every export and every reference file sees the same ones.
"""

from __future__ import annotations

import itertools
import random

WORDS = (
    "river lantern copper engine harbour quiet market signal window garden letter winter compass bridge orchard "
    "thunder ledger planet velvet anchor measure silver station violin pepper canyon theory basket mirror shadow "
    "the of and to in a is that it was for on are with as his they at be this from have or by one had not but what"
)
SHORT = (
    "hello",
    "a",
    "Hello",
    "HELLO",
    "antidisestablishmentarianism",
    "The weather is lovely today.",
    "the weather is lovely today.",
    "THE WEATHER IS LOVELY TODAY.",
    "He drove to the stadium!",
    "How many people live in Berlin?",
    "Berlin had 3,520,031 inhabitants in 2015.",
    "1234567890",
    "3.14159 2.71828 -1e-9 0x7f 1/2 50% $9.99",
    "2026-11-22T05:43:56Z",
    "!?.,;:()[]{}<>\"'`~@#$%^&*-_=+|\\/",
    "...",
    "-",
    "[CLS]",
    "[SEP] [PAD] [MASK] [UNK]",
    "[cls] before, [sep] after",
    "<s> </s> <pad> <|endoftext|>",
    "\U0001f600",
    "\U0001f600\U0001f680\U0001f30d great trip \U0001f469\u200d\U0001f4bb",
    "na\u00efve caf\u00e9 fa\u00e7ade \u00fcber",
    "Stra\u00dfe \u0130stanbul \ufb01ne",
    "e\u0301 e\u0300 combining",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002",
    "\u4f60\u597d\uff0c\u4e16\u754c",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u03b1\u03b2\u03b3 \u0394 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2",
    "mixed \u041c\u043e\u0441\u043a\u0432\u0430 \u6771\u4eac Cairo \u0627\u0644\u0642\u0627\u0647\u0631\u0629",
    " ",
    "\t\n",
    "  leading and trailing  ",
    "tabs\tand\nnew\r\nlines",
    "many      spaces",
    "zero\u200bwidth\u00a0no-break\u3000ideographic",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "SELECT name FROM users WHERE id = 42 AND deleted IS NULL;",
    '{"key": [1, 2.5, null, true], "nested": {"a": "b"}}',
    "for (int i = 0; i < n; ++i) { sum += x[i] * y[i]; }",
    "https://example.org/path?query=1&other=two#fragment",
    "user@example.org",
    "#!/usr/bin/env python3",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "snake_case camelCase kebab-case SCREAMING_CASE",
)


def sentence(words: int, seed: int) -> str:
    """Make so many words, the same ones for the same seed."""
    words_known = WORDS.split()
    generator = random.Random(seed)  # noqa: S311 - reproducible, not secret
    return " ".join(generator.choice(words_known) for _ in range(words))


def many_words() -> str:
    """Ten thousand words, forty times over the limit of a small encoder."""
    return sentence(10_000, seed=10_000)


def parity_texts() -> list[str]:
    """Texts for the check at export: all short ones and every length up to well over the limit."""
    lengths = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 127, 144, 200, 233, 250, 253, 254, 255, 256, 300, 400)
    return [*SHORT, *(sentence(words, seed=words) for words in lengths), many_words()]


def selftest_texts() -> list[str]:
    """Return a few short texts for a service to prove its runtime with at start."""
    return ["hello", "The weather is lovely today.", "How many people live in Berlin?", sentence(40, seed=40)]


def reference_texts(count: int = 220) -> list[str]:
    """Texts for the reference vectors of the tests; the ten thousand words are among them."""
    fixed = parity_texts()
    lengths = itertools.cycle((1, 2, 4, 6, 9, 12, 16, 24, 32, 48, 64, 96, 128, 160))
    more = (sentence(words, seed=1_000 + index) for index, words in enumerate(lengths))
    return [*fixed, *itertools.islice(more, count - len(fixed))]
