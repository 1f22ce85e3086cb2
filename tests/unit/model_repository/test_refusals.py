"""Every model begins the message of a refusal as the services recognise it: a stream of Triton's has no code for it."""

import re

from services.common.runtime_repository import MODEL_REPOSITORY
from services.common.triton import REFUSAL


def test_refusals_begin_with_their_kind():
    texts = {path: path.read_text() for path in MODEL_REPOSITORY.rglob("*.py") if not path.is_symlink()}
    refusals = {path: re.findall(r".*\bINVALID_ARG\b.*", text) for path, text in texts.items()}
    assert sum(map(len, refusals.values())) >= 6
    for path, lines in refusals.items():
        assert all(f'"{REFUSAL}' in line for line in lines), path
