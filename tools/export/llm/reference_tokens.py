"""Write what llama.cpp's tokenizer makes of 1,000 varied texts, as the reference of the tests.

Run where llama-cpp-python is installed, which nothing else here needs:
`python -m tools.export.llm.reference_tokens --source MODEL.gguf --out tests/data/smollm2_tokens.npz`.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np

COUNT = 1000
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>")
TEXTS = (
    "Hello, world!",
    "I'm you're we'll they've he'd it's DON'T 's 't 'S \u2019s",
    "1234567890 3.14 1,234,567 v2.0.1 \u00bd \u00b2 \u0663\u0664\u0665 \u2167 \u0967\u0968\u0969",
    "  leading",
    "trailing   ",
    "a\tb\t\tc",
    "line\nline\n\n\nline\r\nx",
    " \n \n",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\u4e2d\u6587\u5b57\u7b26\uff0c\u6807\u70b9\uff01 "
    "\ud55c\uad6d\uc5b4",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u03b5\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac "
    "\u05e2\u05d1\u05e8\u05d9\u05ea"
    " \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f642\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f3f3\ufe0f\u200d\U0001f308\U0001f44d\U0001f3fd",
    "na\u00efve caf\u00e9 e\u0301 \u00a0 \u200b\u200d\ufeff \u3000",
    "def f(x):\n    return x**2  # sq\n",
    '{"a": [1, 2, {"b": null}]}',
    "<html><body class='x'>&amp;</body></html>",
    "SELECT * FROM t WHERE a>=10 AND b<>'x';",
    "https://example.org/a?b=c&d=%20#e",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaa ____----====####",
    "\x00\x01\x7f\x1b[0m",
    "\ufb01 \ufb02 \u01c5 \u00df \u1e9e \u0130 \u0131 x\u00b2+y\u00b3=z\u2081",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start <| im_end |> <|im_end|>",
)
WORDS = (
    *("the", "quick", "brown", "Fox", "jumps", "over", "lazy", "dogs", "2024", "42", "0x1F", "foo_bar", "fooBar"),
    *("FOO-BAR", "e.g.", "i.e.", "$5.99", "50%", "C++", "C#", "it's", "we're", "\u00e9t\u00e9", "\u00fcber"),
    *("se\u00f1or", "\u041c\u043e\u0441\u043a\u0432\u0430", "\u6771\u4eac", "\U0001f642"),
)
RANGES = ((32, 127), (0xA0, 0x530), (0x3040, 0x30FF), (0x4E00, 0x4F00), (0x1F300, 0x1F6FF), (0x2000, 0x2070))


def varied_texts(count: int = COUNT) -> list[str]:
    """Return the same texts every time: words, numbers, characters of many scripts, special tokens."""
    chance = random.Random(7)  # noqa: S311 - the same texts every time
    texts = ["", *TEXTS, *SPECIAL, *(f"a{token}b" for token in SPECIAL)]
    characters = [chr(number) for first, last in RANGES for number in range(first, last)]

    def words() -> str:
        gaps = (" ", "  ", "\n", "\t", "")
        return "".join(chance.choice(gaps) + chance.choice(WORDS) for _ in range(chance.randrange(1, 25)))

    def scripts() -> str:
        return "".join(chance.choice(characters) for _ in range(chance.randrange(1, 40)))

    def numbers() -> str:
        return " ".join(str(chance.randrange(10 ** chance.randrange(1, 12))) for _ in range(chance.randrange(1, 8)))

    def joined() -> str:
        gap, token = chance.choice((" ", "", "\n\n")), chance.choice((*SPECIAL, ""))
        return chance.choice(TEXTS) + gap + chance.choice(TEXTS) + token

    while len(texts) < count:
        texts.append(chance.choice((words, scripts, numbers, joined))())
    return texts


def main() -> None:
    """Write `texts` (a JSON list in one string) and, with special tokens parsed and as text, all ids and lengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    from llama_cpp import Llama  # noqa: PLC0415 - only where it is installed

    original, texts, arrays = Llama(str(arguments.source), vocab_only=True, verbose=False), varied_texts(), {}
    for name, special in (("parsed", True), ("plain", False)):
        rows = [original.tokenize(text.encode(), add_bos=False, special=special) for text in texts]
        arrays[f"{name}_ids"] = np.array([token for row in rows for token in row], dtype=np.uint16)
        arrays[f"{name}_lengths"] = np.array([len(row) for row in rows], dtype=np.uint16)
    np.savez_compressed(arguments.out, texts=np.array(json.dumps(texts)), **arrays)


if __name__ == "__main__":
    main()
