"""The tokenizer in the store against llama.cpp's, on 1,000 texts (tools/export/llm/reference_tokens.py)."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tools.export.llm.reference_tokens import COUNT, varied_texts

REFERENCE = Path(__file__).parents[2] / "data" / "smollm2_tokens.npz"


@pytest.fixture
def tokenizer() -> Tokenizer:
    path = ModelStore(CommonSettings().model_store).artifact("smollm2-135m-instruct", "tokenizer.json")
    return Tokenizer.from_file(str(path))


@pytest.mark.parametrize("special_tokens", ["parsed", "plain"])
def test_every_text_becomes_the_original_s_tokens(tokenizer: Tokenizer, special_tokens: str) -> None:
    with np.load(REFERENCE) as archive:
        texts = json.loads(archive["texts"].item())
        ids, lengths = (archive[f"{special_tokens}_{name}"].tolist() for name in ("ids", "lengths"))
    assert texts == varied_texts() and len(texts) == COUNT
    tokenizer.encode_special_tokens = special_tokens == "plain"
    borders = np.cumsum([0, *lengths]).tolist()
    expected = [ids[start:end] for start, end in pairwise(borders)]
    found = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert [text for text, a, b in zip(texts, expected, found, strict=True) if a != b] == []


def test_every_text_comes_back(tokenizer: Tokenizer) -> None:
    texts = varied_texts()
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert tokenizer.decode_batch(rows, skip_special_tokens=False) == texts
